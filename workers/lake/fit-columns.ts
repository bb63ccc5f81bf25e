import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Connection } from './connection.ts'
import { quoted } from './names.ts'
import { rawText, type Staging, fileShift } from './staging.ts'

/** A column as it shall be, and what becomes of a value that does not fit: by default its row is rejected. */
export type TargetColumn = Column & { misfits?: 'freeze' | 'discard_row' | 'discard_value' }

/**
 * Gives the staged columns the types of `target` (same names, any order). A value that would change on the way, such as
 * 3.75 in a BIGINT or a date that does not exist, moves its row to `rejected`, or itself to `discarded`; nothing is
 * rounded, and nothing becomes NULL unless the column says `discard_value`. Columns that have their type already cost
 * nothing. Throws SCHEMA_MISMATCH for a value that does not fit a column of `freeze`.
 */
export async function fitColumns(
  connection: Connection,
  staging: Staging,
  target: readonly TargetColumn[],
): Promise<Staging> {
  const staged = new Map(staging.columns.map((column) => [column.name.toLowerCase(), column]))
  const pairs = target.flatMap((column) => {
    const from = staged.get(column.name.toLowerCase())
    return from ? [{ from, to: column }] : []
  })
  const changing = pairs.filter(({ from, to }) => !sameType(from.type, to.type) && !sameType(to.type, 'VARCHAR'))
  await refuseMisfits(connection, staging, changing)
  const rejecting = changing.filter(({ to }) => to.misfits !== 'discard_value')
  if (rejecting.length > 0) await rejectMisfits(connection, staging, rejecting)
  const discarding = changing.filter(({ to }) => to.misfits === 'discard_value')
  for (const pair of discarding) await discardMisfits(connection, staging, pair)
  // TRY_CAST, although every row that is left fits: the engine may cast before it takes the rejected rows out.
  const casts = pairs.map((pair) => {
    const { from, to } = pair
    if (sameType(from.type, to.type)) return `s.${quoted(from.name)} AS ${quoted(to.name)}`
    const value = textOf(pair)
    const cast = `TRY_CAST(${value} AS ${to.type})`
    // TRY_CAST alone would round 3.75 to a BIGINT.
    return discarding.includes(pair)
      ? `CASE WHEN coalesce(${fits(to.type, value)}, false) THEN ${cast} END AS ${quoted(to.name)}`
      : `${cast} AS ${quoted(to.name)}`
  })
  return {
    ...staging,
    columns: pairs.map(({ to }) => to),
    relation: `(SELECT ${casts.join(', ')}, s.__row FROM ${staging.relation} s ANTI JOIN rejected r ON s.__row = r.__row)`,
  }
}

type Pair = { from: Column; to: TargetColumn }

/**
 * SQL for the text of a value, for `fits`. A number whose fraction is nothing but zeros is written without it where a
 * whole number is wanted: 2.0 of a DOUBLE is a BIGINT, and 2.5 is none.
 */
export function textFor(sql: string, from: string, to: string): string {
  if (isText(from)) return sql
  const isWhole = /^U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$/.test(canonicalType(to))
  return isWhole && /^(DOUBLE|FLOAT|DECIMAL)/.test(canonicalType(from))
    ? `regexp_replace(${sql}::VARCHAR, '\\.0+$', '')`
    : `${sql}::VARCHAR`
}

const textOf = ({ from, to }: Pair): string => textFor(`s.${quoted(from.name)}`, from.type, to.type)

const isMisfit = (pair: Pair): string =>
  `${textOf(pair)} IS NOT NULL AND NOT coalesce(${fits(pair.to.type, textOf(pair))}, false)`

/** How many staged values do not fit the types that their columns shall have, in the order of `pairs`. */
export async function countMisfits(
  connection: Connection,
  staging: Staging,
  pairs: readonly Pair[],
): Promise<number[]> {
  if (pairs.length === 0) return []
  const counts = pairs.map((pair, index) => `count(*) FILTER (${isMisfit(pair)})::BIGINT AS n${index}`)
  const [row] = await connection.rows(
    `SELECT ${counts.join(', ')} FROM ${staging.relation} s ANTI JOIN rejected r ON s.__row = r.__row`,
  )
  return pairs.map((_, index) => Number(row?.[`n${index}`]))
}

async function refuseMisfits(connection: Connection, staging: Staging, changing: readonly Pair[]): Promise<void> {
  const frozen = changing.filter(({ to }) => to.misfits === 'freeze')
  const counts = await countMisfits(connection, staging, frozen)
  for (const [index, { to }] of frozen.entries())
    if ((counts[index] ?? 0) > 0)
      throw new AppError(
        'SCHEMA_MISMATCH',
        `${counts[index]} values of the column ${to.name} are no ${to.type}, and its contract is freeze.`,
      )
}

async function discardMisfits(connection: Connection, staging: Staging, pair: Pair): Promise<void> {
  await connection.run(
    `INSERT INTO discarded
     SELECT s.__row >> ${fileShift}, s.__row, NULL, NULL, NULL, ${sqlText(pair.from.name)}, 'VALUE_DISCARDED',
       'the value is no ${pair.to.type} without loss; the row got in without it', left(${textOf(pair)}, 8192)
     FROM ${staging.relation} s ANTI JOIN rejected r ON s.__row = r.__row WHERE ${isMisfit(pair)}`,
  )
}

async function rejectMisfits(connection: Connection, staging: Staging, changing: readonly Pair[]): Promise<void> {
  const bad = changing.map((pair, index) => `WHEN ${isMisfit(pair)} THEN ${index}`)
  await connection.run(
    `CREATE OR REPLACE TEMP TABLE misfits AS SELECT * FROM (
       SELECT s.__row AS __row, CASE ${bad.join(' ')} END AS bad FROM ${staging.relation} s
       ANTI JOIN rejected r ON s.__row = r.__row) WHERE bad IS NOT NULL`,
  )
  const names = changing.map(({ from }, index) => `WHEN ${index} THEN ${sqlText(from.name)}`).join(' ')
  const values = changing.map((pair, index) => `WHEN ${index} THEN ${textOf(pair)}`).join(' ')
  const types = changing.map(({ to }, index) => `WHEN ${index} THEN ${sqlText(to.type)}`).join(' ')
  await connection.run(
    `INSERT INTO rejected
     SELECT s.__row >> ${fileShift}, s.__row, NULL, NULL, NULL, CASE m.bad ${names} END, 'TYPE',
       '"' || left(CASE m.bad ${values} END, 80) || '" is not a ' || CASE m.bad ${types} END || ' without loss',
       ${rawText(staging.columns, 's.')}
     FROM ${staging.relation} s JOIN misfits m ON s.__row = m.__row`,
  )
  await connection.run(`DROP TABLE misfits`)
}

/** Columns beside those of a staging whose rows get their types while they are read; NULL where all values fit. */
export const misfitColumns = ['__bad INTEGER', '__value VARCHAR', '__raw VARCHAR'] as const
/** Their names. */
export const misfitNames = '__bad, __value, __raw'

/**
 * A SELECT that reads the text columns `names` of `source` with the types of `target`, and beside them which value does not
 * fit, if any. As `fitColumns` with `discard_row`, in the same pass over the source.
 */
export function fitRead(names: readonly string[], target: readonly Column[], source: string): string {
  const typed = names.flatMap((name) => {
    const index = target.findIndex((column) => column.name.toLowerCase() === name.toLowerCase())
    const type = target[index]?.type ?? 'VARCHAR'
    return isText(type) ? [] : [{ name, type, index, sql: `s.${quoted(name)}` }]
  })
  const values = names.map((name) => {
    const column = typed.find((column) => column.name === name)
    return column ? `__cast${column.index}` : `s.${quoted(name)}`
  })
  if (typed.length === 0) return `SELECT ${values.join(', ')}, NULL, NULL, NULL FROM ${source} s`
  const bad = typed.map(
    ({ sql, type, index }) =>
      `WHEN ${sql} IS NOT NULL AND NOT coalesce(${fits(type, sql, `__cast${index}`)}, false) THEN ${index}`,
  )
  const value = `CASE __bad ${typed.map(({ sql, index }) => `WHEN ${index} THEN left(${sql}, 80)`).join(' ')} END`
  const raw = rawText(
    names.map((name) => ({ name, type: 'VARCHAR' })),
    's.',
  )
  const casts = typed.map(({ sql, type, index }) => `TRY_CAST(${sql} AS ${type}) AS __cast${index}`)
  // In steps, so that each value is cast and tested once.
  return `SELECT ${values.join(', ')}, __bad, ${value}, CASE WHEN __bad IS NOT NULL THEN ${raw} END
    FROM (SELECT *, CASE ${bad.join(' ')} END AS __bad FROM (SELECT *, ${casts.join(', ')} FROM ${source} s) s) s`
}

/** Moves rows of the table `staged` that `fitRead` found to be no good into `rejected`. `row` is SQL for a row's number. */
export async function rejectRead(connection: Connection, target: readonly Column[], row: string): Promise<void> {
  const of = (value: (column: Column) => string): string =>
    `CASE __bad ${target.map((column, index) => `WHEN ${index} THEN ${sqlText(value(column))}`).join(' ')} END`
  await connection.run(
    `INSERT INTO rejected
     SELECT __row >> ${fileShift}, __row, NULL, NULL, NULL, ${of(({ name }) => name)}, 'TYPE',
       '"' || __value || '" is not a ' || ${of(({ type }) => type)} || ' without loss', __raw
     FROM (SELECT __bad, __value, __raw, ${row} AS __row FROM temp.staged WHERE __bad IS NOT NULL)`,
  )
}

/**
 * SQL that is true when the text `value` can become a value of `type` and nothing of it is lost.
 * The first test of each type, that the value prints as it was written, is quick and true for most rows. `cast` is SQL for
 * the value as it would become, where that is at hand.
 */
export function fits(type: string, value: string, cast = `TRY_CAST(${value} AS ${type})`): string {
  const name = canonicalType(type)
  const prints = `coalesce(${cast}::VARCHAR = ${value}, false)`
  if (name === 'VARCHAR') return 'true'
  if (/INT/.test(name) && !name.includes('INTERVAL'))
    return `(${prints} OR (regexp_full_match(${value}, '[+-]?[0-9]+') AND ${cast} IS NOT NULL))`
  const scale = /^DECIMAL\(\d+,(\d+)\)$/.exec(name)?.[1]
  if (scale !== undefined)
    return `(${prints} OR (regexp_full_match(${value}, '[+-]?[0-9]+(\\.[0-9]{0,${scale}}0*)?') AND ${cast} IS NOT NULL))`
  if (name === 'DOUBLE' || name === 'FLOAT') {
    const digits = `length(ltrim(regexp_replace(regexp_replace(${value}, '[eE].*$', ''), '[^0-9]', '', 'g'), '0'))`
    return `(${prints} OR (regexp_full_match(${value}, '[+-]?[0-9]+(\\.[0-9]*)?([eE][+-]?[0-9]+)?')
      AND ${digits} <= ${name === 'DOUBLE' ? 15 : 6} AND isfinite(${cast})))`
  }
  if (name === 'BOOLEAN') return `lower(${value}) IN ('true', 'false')`
  if (name === 'DATE') return prints
  if (name === 'TIMESTAMP') return `(regexp_full_match(${value}, '${isoTime}') AND ${cast} IS NOT NULL)`
  if (name === 'TIMESTAMP WITH TIME ZONE')
    return `(regexp_full_match(${value}, '${isoTime}(Z|[+-][0-9]{2}(:[0-9]{2})?)') AND ${cast} IS NOT NULL)`
  if (name === 'JSON') return `json_valid(${value})`
  return `${cast} IS NOT NULL`
}

const isoTime = '[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,6}0*)?)?)?'

/** True when two type names mean the same type. */
export const sameType = (a: string, b: string): boolean => canonicalType(a) === canonicalType(b)

const isText = (type: string): boolean => canonicalType(type) === 'VARCHAR'

/** The engine's own spelling of a type. */
export function canonicalType(type: string): string {
  const name = type
    .trim()
    .toUpperCase()
    .replace(/\s+/g, ' ')
    .replace(/\s*([(),])\s*/g, '$1')
  const aliases: Record<string, string> = {
    TEXT: 'VARCHAR',
    STRING: 'VARCHAR',
    INT: 'INTEGER',
    INT4: 'INTEGER',
    INT8: 'BIGINT',
    LONG: 'BIGINT',
    BOOL: 'BOOLEAN',
    REAL: 'FLOAT',
    FLOAT8: 'DOUBLE',
    NUMERIC: 'DECIMAL(18,3)',
    DECIMAL: 'DECIMAL(18,3)',
    TIMESTAMPTZ: 'TIMESTAMP WITH TIME ZONE',
    DATETIME: 'TIMESTAMP',
  }
  return aliases[name] ?? name.replace(/^NUMERIC\(/, 'DECIMAL(').replace(/^DECIMAL\((\d+)\)$/, 'DECIMAL($1,0)')
}

const sqlText = (text: string): string => `'${text.replaceAll("'", "''")}'`
