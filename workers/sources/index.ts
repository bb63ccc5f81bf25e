import type { Source } from '../define.ts'
import postgres from './postgres.ts'

/** Every source of the product, sorted by provider. */
export const sources: readonly Source[] = [postgres]
