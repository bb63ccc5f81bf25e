import type { Column } from '../define.ts'
import type { Connection } from './connection.ts'
import { quoted } from './names.ts'
import { keysFrom, type Staging } from './staging.ts'

/** Rows that can be read once, with their types, piece by piece, as they come from a source. */
export type Stream = {
  columns: Column[]
  /** ORDER BY terms over `columns`, for the rows come over several threads; of rows with the same key the first is kept. */
  keep: string
  batches: AsyncIterable<Batch>
}

/** SQL for some of the rows. `loaded` is called when they are in, and is told how many they were. */
export type Batch = { relation: string; loaded(rows: number): Promise<void> }

/** Puts a stream into the temporary table `staged`, so that it can be read twice. */
export async function stageStream(connection: Connection, stream: Stream): Promise<Staging> {
  const list = stream.columns.map((column) => `${quoted(column.name)} ${column.type}`).join(', ')
  const names = stream.columns.map((column) => quoted(column.name)).join(', ')
  await connection.run(`CREATE OR REPLACE TEMP TABLE staged (${list})`)
  for await (const batch of stream.batches) {
    const rows = await connection.run(`INSERT INTO staged SELECT ${names} FROM ${batch.relation}`)
    await batch.loaded(rows)
  }
  return {
    columns: stream.columns,
    untyped: [],
    keep: stream.keep,
    relation: `(SELECT s.*, s.rowid AS __row FROM temp.staged s ANTI JOIN rejected r ON s.rowid = r.__row)`,
    keysOfRejected: keysFrom('(SELECT *, rowid AS __row FROM temp.staged)'),
    files: [],
    locate: async () => {},
  }
}
