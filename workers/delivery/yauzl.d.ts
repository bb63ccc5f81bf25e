/** The part of yauzl 3 that reading an archive back needs; the package brings no types. */
declare module 'yauzl' {
  import type { Readable } from 'node:stream'

  export type Entry = {
    fileName: string
    uncompressedSize: number
    crc32: number
    isEncrypted(): boolean
  }
  export type ZipFile = {
    comment: string
    entryCount: number
    eachEntry(): AsyncIterableIterator<Entry>
    openReadStreamPromise(entry: Entry): Promise<Readable>
    close(): void
  }
  export function openPromise(path: string, options?: { strictFileNames?: boolean }): Promise<ZipFile>
}
