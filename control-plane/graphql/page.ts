import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { builder } from './builder.ts'

/** What a caller asks of a list. */
export type PageArgs = { first?: number | null | undefined; after?: string | null | undefined }
/** Where an item stands in its list: the value that the list is ordered by, and the id where values are equal. */
export type Position = readonly [sortKey: string, id: string]
/** A page as GraphQL connections want it. */
export type Page<Row> = {
  edges: { cursor: string; node: Row }[]
  pageInfo: { hasNextPage: boolean; hasPreviousPage: boolean; startCursor: string | null; endCursor: string | null }
}

/** Items of a page when the caller does not say, and at most. */
export const pageSizes = { default: 25, max: 100 } as const

/**
 * One page of a list by keyset: rows that come or go meanwhile neither repeat nor hide others. `list` names the list and
 * its filter; a cursor of another one is BAD_CURSOR, as is any that we did not make. `read` gets one row more than shown.
 */
export async function readPage<Row>(
  args: PageArgs,
  list: {
    list: unknown
    position(row: Row): Position
    read(limit: number, after: Position | undefined): Promise<Row[]>
  },
): Promise<Page<Row>> {
  const first = pageSize(args)
  const mark = await markOf(list.list)
  const after = cursorPosition(args.after, mark)
  const rows = await list.read(first + 1, after)
  return pageOf(rows, first, after !== undefined, (row) => encodeCursor([...list.position(row), mark]))
}

/** As `readPage`, for lists that are ordered by one number and read in batches: the number after which to go on. */
export async function numberAfter(args: PageArgs, list: unknown): Promise<number> {
  const position = cursorPosition(args.after, await markOf(list))
  const after = position ? Number(position[0]) : 0
  if (!Number.isSafeInteger(after) || after < 0) throw badCursor()
  return after
}

/** The page of rows that `numberAfter` belongs to; `rows` holds one more than shown if there is more. */
export async function numberedPage<Row>(
  args: PageArgs,
  list: unknown,
  rows: Row[],
  number: (row: Row) => number,
): Promise<Page<Row>> {
  const mark = await markOf(list)
  return pageOf(rows, pageSize(args), Boolean(args.after), (row) => encodeCursor([String(number(row)), '', mark]))
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

function pageOf<Row>(rows: Row[], first: number, isLater: boolean, cursor: (row: Row) => string): Page<Row> {
  const edges = rows.slice(0, first).map((node) => ({ cursor: cursor(node), node }))
  return {
    edges,
    pageInfo: {
      hasNextPage: rows.length > first,
      hasPreviousPage: isLater,
      startCursor: edges[0]?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
  }
}

const cursorShape = z.tuple([z.string().max(200), z.string().max(200), z.string()])

function cursorPosition(cursor: string | null | undefined, mark: string): Position | undefined {
  if (cursor === null || cursor === undefined) return undefined
  const parsed = cursorShape.safeParse(decodeCursor(cursor))
  if (!parsed.success || parsed.data[2] !== mark) throw badCursor()
  return [parsed.data[0], parsed.data[1]]
}

function encodeCursor(parts: readonly string[]): string {
  const bytes = new TextEncoder().encode(JSON.stringify(parts))
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
}

function decodeCursor(cursor: string): unknown {
  try {
    const text = atob(cursor.replaceAll('-', '+').replaceAll('_', '/'))
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (c) => c.charCodeAt(0))))
  } catch {
    return undefined
  }
}

async function markOf(list: unknown): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(JSON.stringify(list)))
  return Array.from(new Uint8Array(digest).slice(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
