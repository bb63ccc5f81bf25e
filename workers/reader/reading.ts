import { z } from 'zod'
import type { Bindable, Connection, Row } from '../lake/connection.ts'

/** What every list takes: how many rows, and those after a place in it. */
export const pageShape = {
  limit: z.number().int().min(1).max(101),
  after: z
    .tuple([z.string().max(200), z.string().max(200)])
    .nullable()
    .default(null),
}
/** A moment in an argument, as ISO 8601. */
export const momentShape = z.iso.datetime({ offset: true }).nullish()

/** A page in SQL: `from` is a query with `first` and `second`, the place of a row, and `order` is over these two. */
export type PageQuery = {
  from: string
  values: readonly Bindable[]
  order: 'first, second' | 'first DESC, second'
}

/** How an operation is read: `table` is empty for those that are about none. */
export type Reading<S extends z.ZodType = z.ZodType> = {
  arguments: S
  query(connection: Connection, table: string, given: z.output<S>): Promise<PageQuery>
  /** Puts what is missing to the rows of a page. Default: nothing. */
  finish?(connection: Connection, rows: Row[]): Promise<Row[]>
}
