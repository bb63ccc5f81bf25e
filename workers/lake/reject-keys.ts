import type { Column } from '../define.ts'
import type { Connection } from './connection.ts'
import { quoted } from './names.ts'
import { fileShift, rawText } from './staging.ts'

/** What becomes of rows of one load that have the same business key. */
export type Duplicates = 'last_wins' | 'reject'

/** Where to look for rows that have no key of their own. */
export type KeyCheck = {
  relation: string
  columns: readonly Column[]
  keys: readonly Column[]
  /** What names a row: `__row` of a staging, `rowid` of a table. */
  place: '__row' | 'rowid'
  /** ORDER BY terms; of the rows with one key the first by them is kept. */
  keep: string
  /** What becomes of rows with the same key: the others but the one to keep are rejected, or all of them. */
  duplicates: Duplicates
  /** As of `Staging`. */
  distinct?: readonly (readonly string[])[]
  /** The table to take the rows out of; a staging needs none, its relation leaves out what is rejected. */
  deleteFrom?: string
}

/** Rejects rows whose business key is NULL in part, and rows of the same key. Gives the numbers of both. */
export async function rejectKeys(
  connection: Connection,
  check: KeyCheck,
): Promise<{ withoutKey: number; duplicates: number }> {
  const noKey = check.keys.map(({ name }) => `${quoted(name)} IS NULL`).join(' OR ')
  const hash = `hash(${check.keys.map(({ name }) => quoted(name)).join(', ')})`
  // Eight bytes a row instead of the keys; two keys that share a hash are told apart below.
  const repeated = `SELECT count(*) FROM (SELECT ${hash} FROM ${check.relation} GROUP BY 1 HAVING count(*) > 1)`
  const [found] = await connection.rows(
    `SELECT (SELECT count(*) FROM ${check.relation} WHERE ${noKey})::BIGINT AS without,
       ${isDistinct(check) ? '0' : `(${repeated})`}::BIGINT AS repeated`,
  )
  return {
    withoutKey: Number(found?.['without']) > 0 ? await rejectWithout(connection, check, noKey) : 0,
    duplicates: Number(found?.['repeated']) > 0 ? await rejectRepeated(connection, check, hash) : 0,
  }
}

// Rows that differ in a part of the key differ in the key, and those without a part of it are rejected for that.
function isDistinct({ keys, distinct }: KeyCheck): boolean {
  const names = new Set(keys.map(({ name }) => name.toLowerCase()))
  return (distinct ?? []).some((columns) => columns.every((name) => names.has(name.toLowerCase())))
}

async function rejectWithout(connection: Connection, check: KeyCheck, noKey: string): Promise<number> {
  const names = check.keys.map(({ name }) => `WHEN ${quoted(name)} IS NULL THEN ${text(name)}`).join(' ')
  const rows = await connection.run(
    `INSERT INTO rejected SELECT ${place(check)}, NULL, NULL, NULL, CASE ${names} END, 'KEY_NULL',
       'a part of the business key is missing', ${rawText(check.columns)} FROM ${check.relation} WHERE ${noKey}`,
  )
  if (check.deleteFrom) await connection.run(`DELETE FROM ${check.deleteFrom} WHERE ${noKey}`)
  return rows
}

async function rejectRepeated(connection: Connection, check: KeyCheck, hash: string): Promise<number> {
  const keys = check.keys.map(({ name }) => quoted(name)).join(', ')
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE repeated AS
     WITH shared AS (SELECT ${hash} AS h FROM ${check.relation} GROUP BY 1 HAVING count(*) > 1)
     SELECT ${check.place} AS place FROM ${check.relation} WHERE ${hash} IN (SELECT h FROM shared)
     QUALIFY ${check.duplicates === 'reject' ? `count(*) OVER (PARTITION BY ${keys})` : `row_number() OVER (PARTITION BY ${keys} ORDER BY ${check.keep}, ${check.place} DESC)`} > 1`,
  )
  const rows = await connection.run(
    `INSERT INTO rejected SELECT ${place(check)}, NULL, NULL, NULL, ${text(check.keys[0]?.name ?? '')}, 'KEY_DUPLICATE',
       'another row of this load has the same business key', ${rawText(check.columns)} FROM ${check.relation}
     WHERE ${check.place} IN (SELECT place FROM repeated)`,
  )
  if (check.deleteFrom)
    await connection.run(`DELETE FROM ${check.deleteFrom} WHERE rowid IN (SELECT place FROM repeated)`)
  await connection.run(`DROP TABLE repeated`)
  return rows
}

const place = (check: KeyCheck): string => (check.place === '__row' ? `__row >> ${fileShift}, __row` : 'NULL, NULL')

const text = (value: string): string => `'${value.replaceAll("'", "''")}'`
