import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Connection } from './connection.ts'
import { quoted } from './names.ts'

const combinedMax = 8

/**
 * Finds the business key of rows that have none: columns that are never NULL and, together, never the same twice. One
 * column is better than two, two better than three; among equals the one whose name says so (`id`, `<table>_id`, then
 * `…_id`, `…_key`, `…_code`, `…_no`), then the one further to the left. Measures and texts that only happen to differ
 * come after dates and whole numbers. Throws KEY_INVALID when there are no rows, or no such columns.
 */
export async function detectKey(
  connection: Connection,
  relation: string,
  table: string,
  columns: readonly Column[],
): Promise<string[]> {
  const candidates = columns
    .filter(({ type }) => usable.test(type))
    .map(({ name, type }, at) => ({ name, rank: rank(name, type, table), at }))
    .sort((a, b) => a.rank - b.rank || a.at - b.at)
  const { rows, complete } = await look(
    connection,
    relation,
    candidates.map(({ name }) => name),
  )
  if (rows === 0) throw new AppError('KEY_INVALID', `The table ${table} is new and gets no row: name its business_key.`)
  const whole = candidates.filter(({ name }) => complete.has(name))
  for (const keys of combinations(whole.map(({ name }) => name)))
    if (await isUnique(connection, relation, keys, rows)) return keys
  throw new AppError(
    'KEY_INVALID',
    `The table ${table} is new and no columns of its rows make a key (never empty, never twice the same): name its business_key.`,
  )
}

// Floating numbers, flags and nested values tell no records apart.
const usable = /^(VARCHAR|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL\(.*\)|DATE|TIME|TIMESTAMP.*|UUID)$/i

function rank(name: string, type: string, table: string): number {
  const lower = name.toLowerCase()
  const single = table.replace(/ies$/, 'y').replace(/s$/, '')
  if (lower === 'id' || lower === `${table}_id` || lower === `${single}_id` || lower === `${single}id`) return 0
  if (/(^|_)(id|key|code|no|nr|number|uuid|guid)$/.test(lower) || /[a-z](Id|Key|Code|No|Number)$/.test(name)) return 1
  if (/^(DATE|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|UUID)/i.test(type)) return 2
  return /^VARCHAR$/i.test(type) ? 3 : 4
}

function* combinations(names: readonly string[]): Generator<string[]> {
  for (const name of names) yield [name]
  const few = names.slice(0, combinedMax)
  for (const [i, a] of few.entries()) for (const b of few.slice(i + 1)) yield [a, b]
  for (const [i, a] of few.entries())
    for (const [j, b] of few.slice(i + 1).entries()) for (const c of few.slice(i + j + 2)) yield [a, b, c]
}

async function look(
  connection: Connection,
  relation: string,
  names: readonly string[],
): Promise<{ rows: number; complete: Set<string> }> {
  const counts = names.map((name, index) => `, count(${quoted(name)})::BIGINT AS n${index}`)
  const [row] = await connection.rows(`SELECT count(*)::BIGINT AS n${counts.join('')} FROM ${relation}`)
  const rows = Number(row?.['n'])
  return { rows, complete: new Set(names.filter((_, index) => Number(row?.[`n${index}`]) === rows)) }
}

// Most combinations fall already in the first rows.
async function isUnique(connection: Connection, relation: string, keys: string[], rows: number): Promise<boolean> {
  const list = keys.map(quoted).join(', ')
  const distinct = async (from: string): Promise<number> => {
    const [row] = await connection.rows(
      `SELECT count(*)::BIGINT AS n FROM (SELECT ${list} FROM ${from} GROUP BY ALL HAVING count(*) > 1)`,
    )
    return Number(row?.['n'])
  }
  if (rows > 100_000 && (await distinct(`(SELECT ${list} FROM ${relation} LIMIT 50000)`)) > 0) return false
  return (await distinct(relation)) === 0
}
