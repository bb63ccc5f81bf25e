declare module 'pg-copy-streams' {
  import type { Readable, ReadableOptions, Writable, WritableOptions } from 'node:stream'
  import type { Submittable } from 'pg'

  /** A COPY … TO STDOUT as a stream of its bytes; `rowCount` is set when it has ended. */
  export function to(text: string, options?: ReadableOptions): Readable & Submittable & { rowCount: number }

  /** A COPY … FROM STDIN as a stream that takes its bytes; `rowCount` is set when it has finished. */
  export function from(text: string, options?: WritableOptions): Writable & Submittable & { rowCount: number }
}
