import { AppError } from '../../shared/errors.ts'
import type { Context } from '../context.ts'
import { builder } from './builder.ts'
import { type Cursors, cursorsOf, type Position } from './cursor.ts'

/** What a caller asks of a list. */
export type PageArgs = { first?: number | null | undefined; after?: string | null | undefined }
/** A page as GraphQL connections want it. */
export type Page<Row> = {
  edges: { cursor: string; node: Row }[]
  pageInfo: { hasNextPage: boolean; hasPreviousPage: boolean; startCursor: string | null; endCursor: string | null }
}

/** Items of a page when the caller does not say, and at most. */
export const pageSizes = { default: 25, max: 100 } as const

/**
 * One page of a list by keyset: rows that come or go meanwhile neither repeat nor hide others. `list` names the list and
 * its filter; a cursor of another one or of another tenant is BAD_CURSOR, as is any that we did not make. `read` gets one row more than shown.
 */
export async function readPage<Row>(
  context: Context,
  args: PageArgs,
  list: {
    list: unknown
    position(row: Row): Position
    read(limit: number, after: Position | undefined): Promise<Row[]>
  },
): Promise<Page<Row>> {
  const first = pageSize(args)
  const cursors = await cursorsOf(context, list.list)
  const after = await positionAfter(args, cursors)
  const rows = await list.read(first + 1, after)
  return pageOf(rows, first, after !== undefined, (row) => cursors.at(list.position(row)))
}

/** As `readPage`, for lists that are ordered by one number and read in batches: the number after which to go on. */
export async function numberAfter(context: Context, args: PageArgs, list: unknown): Promise<number> {
  const position = await positionAfter(args, await cursorsOf(context, list))
  const after = position ? Number(position[0]) : 0
  if (!Number.isSafeInteger(after) || after < 0) throw badCursor()
  return after
}

/** The page of rows that `numberAfter` belongs to; `rows` holds one more than shown if there is more. */
export async function numberedPage<Row>(
  context: Context,
  args: PageArgs,
  list: unknown,
  rows: Row[],
  number: (row: Row) => number,
): Promise<Page<Row>> {
  const cursors = await cursorsOf(context, list)
  return pageOf(rows, pageSize(args), Boolean(args.after), (row) => cursors.at([String(number(row)), '']))
}

/** How many items to show. Throws BAD_INPUT outside 1 to 100. */
export function pageSize(args: PageArgs): number {
  const first = args.first ?? pageSizes.default
  if (first >= 1 && first <= pageSizes.max) return first
  throw new AppError('BAD_INPUT', `first must be 1 to ${pageSizes.max}.`)
}

/** A cursor that is not ours, or of another list. */
export const badCursor = (): AppError => new AppError('BAD_CURSOR', 'This cursor does not belong to this list.')

/** The arguments of every list. */
export const pageArgs = builder.args((t) => ({
  first: t.int({
    description: `How many items, 1 to ${pageSizes.max}.`,
    defaultValue: pageSizes.default,
  }),
  after: t.string({ description: 'The `endCursor` of the page before.' }),
}))

async function positionAfter({ after }: PageArgs, cursors: Cursors): Promise<Position | undefined> {
  if (after === null || after === undefined) return undefined
  const position = await cursors.read(after)
  if (!position) throw badCursor()
  return position
}

// A cursor is made when it is asked for: most pages show the last one alone. One class, since a page makes a hundred.
class Edge<Row> {
  readonly node: Row
  readonly #cursorOf: (row: Row) => string

  constructor(node: Row, cursorOf: (row: Row) => string) {
    this.node = node
    this.#cursorOf = cursorOf
  }

  get cursor(): string {
    return this.#cursorOf(this.node)
  }
}

function pageOf<Row>(rows: Row[], first: number, isLater: boolean, cursor: (row: Row) => string): Page<Row> {
  const edges = rows.slice(0, first).map((node) => new Edge(node, cursor))
  return {
    edges,
    pageInfo: {
      hasNextPage: rows.length > first,
      hasPreviousPage: isLater,
      get startCursor() {
        return edges[0]?.cursor ?? null
      },
      get endCursor() {
        return edges.at(-1)?.cursor ?? null
      },
    },
  }
}
