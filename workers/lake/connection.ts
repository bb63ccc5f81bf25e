import type { DuckDBConnection, DuckDBValue } from '@duckdb/node-api'
import { abortedError, throwIfAborted } from '../aborted.ts'
import type { Attachment, LakeKind } from './attach.ts'
import { lakeError } from './error.ts'
import { takeTurn } from './turn.ts'

/** A value that can be bound. */
export type Bindable = string | number | bigint | boolean | null

/** A row as plain JSON values; BIGINT and DECIMAL come as text, so no digit is lost. */
export type Row = Record<string, string | number | boolean | null | object | undefined>

/** A connection to the lake. One statement at a time; temporary tables live and die with it. */
export type Connection = Disposable & {
  /** What it is a connection to. */
  kind: LakeKind
  /** Runs one or more statements and gives the number of rows that the last one changed. */
  run(sql: string, values?: readonly Bindable[]): Promise<number>
  /** Runs a query whose result is small, and gives its rows. */
  rows(sql: string, values?: readonly Bindable[]): Promise<Row[]>
  /** Runs a query whose result may be large, chunk after chunk (at most 2,048 rows). */
  chunks(sql: string, values?: readonly Bindable[]): AsyncIterable<DuckDBValue[][]>
  /** Throws what is wrong with a statement, without running it: the engine's own error, unmapped. */
  prepare(sql: string): Promise<{ statementType: number; columns: { name: string; type: string }[] }>
  /**
   * Begins a transaction that writes. Those of a `ducklake` run one after another, whatever they write and wherever their
   * processes are: it would find out at their ends only that two do not go together.
   */
  begin(): Promise<void>
  /** Takes back what the open transaction did; does nothing when there is none any more. */
  rollback(): Promise<void>
  /** Commits what `work` does, or rolls it back when it throws. */
  transaction<T>(work: () => Promise<T>): Promise<T>
  /** Interrupts what runs. Safe to call twice. */
  close(): void
}

/** Wraps an engine connection: errors come as AppErrors, and the signal interrupts it within about 30 ms. */
export function wrapConnection(
  inner: DuckDBConnection,
  { kind, turn }: Pick<Attachment, 'kind' | 'turn'>,
  signal: AbortSignal,
  closed: () => void,
): Connection {
  let again: NodeJS.Timeout | undefined
  // An interrupt that comes before the statement has begun is lost, hence more than one.
  const interrupt = (): void => {
    inner.interrupt()
    again = setInterval(() => inner.interrupt(), 50)
  }
  signal.addEventListener('abort', interrupt, { once: true })
  let isOpen = true

  async function guarded<T>(work: () => Promise<T>): Promise<T> {
    throwIfAborted(signal)
    try {
      return await work()
    } catch (error) {
      if (signal.aborted) throw abortedError(signal)
      throw lakeError(error)
    } finally {
      clearInterval(again)
    }
  }

  const connection: Connection = {
    kind,
    run: (sql, values) =>
      guarded(async () => (await (values ? inner.run(sql, [...values]) : inner.run(sql))).rowsChanged),
    rows: (sql, values) =>
      guarded(async () => {
        const reader = await (values ? inner.runAndReadAll(sql, [...values]) : inner.runAndReadAll(sql))
        return reader.getRowObjectsJson() as Row[] // JSON values by the name of the method
      }),
    async *chunks(sql, values) {
      const result = await guarded(() => (values ? inner.stream(sql, [...values]) : inner.stream(sql)))
      for (;;) {
        const chunk = await guarded(() => result.fetchChunk())
        if (!chunk || chunk.rowCount === 0) return
        yield chunk.getRows()
      }
    },
    async prepare(sql) {
      const statement = await inner.prepare(sql)
      try {
        const columns = Array.from({ length: statement.columnCount }, (_, index) => ({
          name: statement.columnName(index),
          type: statement.columnType(index).toString(),
        }))
        return { statementType: statement.statementType, columns }
      } finally {
        statement.destroySync()
      }
    },
    async begin() {
      await connection.run('BEGIN')
      if (turn !== undefined) await takeTurn(connection, turn, signal)
    },
    async rollback() {
      // A failed or interrupted transaction is gone already in some cases.
      await inner.run('ROLLBACK').catch(() => {})
    },
    async transaction(work) {
      await connection.begin()
      try {
        const result = await work()
        await connection.run('COMMIT')
        return result
      } catch (error) {
        await connection.rollback()
        throw error
      }
    },
    close() {
      if (!isOpen) return
      isOpen = false
      signal.removeEventListener('abort', interrupt)
      clearInterval(again)
      inner.interrupt()
      inner.closeSync()
      closed()
    },
    [Symbol.dispose]: () => connection.close(),
  }
  return connection
}
