import type { Processor } from '../define.ts'
import fileCompress from './file/compress.ts'
import fileDelete from './file/delete.ts'

/** Every processor of the product, sorted by type. */
export const processors: readonly Processor[] = [fileCompress, fileDelete]
