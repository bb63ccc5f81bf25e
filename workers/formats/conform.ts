import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Table } from '../lake/catalog.ts'
import type { Connection } from '../lake/connection.ts'
import type { Contract, ContractMode } from '../lake/contract.ts'
import { canonicalType, countMisfits, fitColumns, fits, sameType, type TargetColumn } from '../lake/fit-columns.ts'
import { quoted } from '../lake/names.ts'
import { after, digitsOf, isWider, type SchemaChange } from '../lake/schema-change.ts'
import { fileShift, rawText, type Staging } from '../lake/staging.ts'
import { inferTypes } from './infer-types.ts'
import type { SchemaFile } from './schema-file.ts'

/** What staged rows have to conform to. */
export type Conformity = {
  /** Types that the step declares, by column. */
  declared: Readonly<Record<string, string>>
  /** Types that the organisation declares for this table, and for all its tables. */
  schemaFiles: { table: SchemaFile; organisation: SchemaFile }
  /** The table whose columns hold; undefined for one that is made by this load. */
  table: Table | undefined
  contract: Contract
  /** New names of columns of the table, by their old ones. */
  renames: Readonly<Record<string, string>>
  /** True where a change that takes values away may be made: the load has a plan. */
  allowsLoss: boolean
}

/** Rows that conform, and the changes of the table that must come before them. */
export type Conformed = { staging: Staging; changes: SchemaChange[] }

/**
 * Brings staged rows and the table that takes them together, as the contract says. The most specific type holds: the
 * step's, then the table's own, then those of the organisation's schema files, then, for text, what all values allow.
 * What does not fit goes to `rejected` and `discarded`; a changed type or name of the table comes back as a change.
 * Throws SCHEMA_MISMATCH when the contract refuses, when a declared column is not in the source, and for a change that
 * takes values away without a plan.
 */
export async function conform(connection: Connection, staged: Staging, want: Conformity): Promise<Conformed> {
  const changes = renamesOf(staged, want)
  const existing = changes.reduce(after, want.table?.columns ?? [])
  checkDeclared(staged, want.declared)
  const missing = missingColumns(staged, existing, want)
  changes.push(...missing.changes)
  const staging = await withoutNew(connection, withNulls(staged, missing.nulls), existing, want)
  const { targets, retyped } = await targetTypes(connection, staging, existing, want)
  changes.push(...retyped)
  await rejectEmpty(connection, staging, want.schemaFiles.table)
  return { staging: await fitColumns(connection, staging, targets), changes }
}

/**
 * The types that columns will get, for whoever can give them while it reads: undefined unless every type is known without
 * the values, and a row whose value does not fit is simply rejected.
 */
export function typesInAdvance(names: readonly string[], want: Conformity): TargetColumn[] | undefined {
  if (Object.keys(want.renames).length > 0) return undefined
  const targets = names.map((name): TargetColumn | undefined => {
    const old = want.table && byName(want.table.columns, name)
    const declared = declaredType(name, want, old !== undefined)
    const mode = old ? want.contract.type(old.name) : 'discard_row'
    const isKept = old !== undefined || want.table === undefined || want.contract.newColumn(name) === 'evolve'
    const type = old?.type ?? declared
    if (type === undefined || !isKept || (old && declared !== undefined && !sameType(old.type, declared)))
      return undefined
    return mode === 'discard_row' || (mode === 'evolve' && declared !== undefined) ? { name, type } : undefined
  })
  const known = targets.filter((target) => target !== undefined)
  return known.length === names.length ? known : undefined
}

function renamesOf(staging: Staging, { table, renames }: Conformity): SchemaChange[] {
  return Object.entries(renames).flatMap(([from, to]): SchemaChange[] => {
    const old = table && byName(table.columns, from)
    if (!old || byName(table.columns, to) || byName(staging.columns, from) || !byName(staging.columns, to)) return []
    return [{ change: 'rename', column: old.name, to: byName(staging.columns, to)?.name ?? to }]
  })
}

function checkDeclared(staging: Staging, declared: Conformity['declared']): void {
  for (const name of Object.keys(declared))
    if (!byName(staging.columns, name))
      throw new AppError(
        'SCHEMA_MISMATCH',
        `The source has no column ${JSON.stringify(name)}, which the step declares.`,
      )
}

function missingColumns(
  staging: Staging,
  existing: readonly Column[],
  want: Conformity,
): { nulls: Column[]; changes: SchemaChange[] } {
  const missing = existing.filter(({ name }) => !byName(staging.columns, name))
  const key = missing.find(({ name }) => want.table?.businessKey.some((part) => same(part, name)))
  if (missing.length === 0 || want.contract.missing === 'refuse' || key) return { nulls: [], changes: [] }
  if (want.contract.missing === 'null') return { nulls: missing, changes: [] }
  const names = missing.map(({ name }) => name).join(', ')
  if (!want.allowsLoss) throw lossRefused(`The source no longer has ${names}: dropping a column`)
  return { nulls: [], changes: missing.map(({ name, type }) => ({ change: 'drop', column: name, from: type })) }
}

function withNulls(staging: Staging, nulls: readonly Column[]): Staging {
  if (nulls.length === 0) return staging
  const list = nulls.map(({ name, type }) => `NULL::${type} AS ${quoted(name)}`).join(', ')
  return {
    ...staging,
    columns: [...staging.columns, ...nulls],
    relation: `(SELECT *, ${list} FROM ${staging.relation})`,
  }
}

// New columns that the contract keeps out, taken away; what they hold is rejected or discarded.
async function withoutNew(
  connection: Connection,
  staging: Staging,
  existing: readonly Column[],
  { table, contract }: Conformity,
): Promise<Staging> {
  if (!table) return staging
  const added = staging.columns.filter(({ name }) => !byName(existing, name))
  const frozen = added.find(({ name }) => contract.newColumn(name) === 'freeze')
  if (frozen)
    throw new AppError(
      'SCHEMA_MISMATCH',
      `The source has a column ${JSON.stringify(frozen.name)} that the table ${table.name} does not have, and the contract is freeze.`,
    )
  const kept = (name: string): boolean => byName(existing, name) !== undefined || contract.newColumn(name) === 'evolve'
  for (const { name } of added) {
    const mode = contract.newColumn(name)
    if (mode === 'evolve') continue
    const isRow = mode === 'discard_row'
    await connection.run(
      `INSERT INTO ${isRow ? 'rejected' : 'discarded'}
       SELECT s.__row >> ${fileShift}, s.__row, NULL, NULL, NULL, $1, $2, $3,
         ${isRow ? rawText(staging.columns, 's.') : `left(s.${quoted(name)}::VARCHAR, 8192)`}
       FROM ${staging.relation} s ANTI JOIN rejected r ON s.__row = r.__row WHERE s.${quoted(name)} IS NOT NULL`,
      [name, 'NEW_COLUMN', `the table has no column ${name}, and its contract is ${mode}`],
    )
  }
  return {
    ...staging,
    columns: staging.columns.filter(({ name }) => kept(name)),
    untyped: staging.untyped.filter(kept),
  }
}

async function targetTypes(
  connection: Connection,
  staging: Staging,
  existing: readonly Column[],
  want: Conformity,
): Promise<{ targets: TargetColumn[]; retyped: SchemaChange[] }> {
  const retyped: SchemaChange[] = []
  const untyped = new Set(staging.untyped)
  const known = staging.columns.map((from) => {
    const old = byName(existing, from.name)
    const declared = declaredType(from.name, want, old !== undefined)
    const change = old && declared !== undefined ? retype(old, declared, want) : undefined
    if (change) retyped.push(change)
    const type = change?.to ?? old?.type ?? declared ?? (untyped.has(from.name) ? undefined : from.type)
    const mode = old ? want.contract.type(old.name) : 'discard_row'
    return { from, name: old?.name ?? from.name, type, mode, follows: mode === 'evolve' && declared === undefined }
  })
  const unknown = known.filter(({ type }) => type === undefined).map(({ from }) => from.name)
  const inferred = new Map(
    (await inferTypes(connection, staging.relation, unknown)).map((column) => [column.name, column.type]),
  )
  const targets = known.map(({ from, name, type, mode, follows }) => ({
    from,
    follows,
    to: { name, type: type ?? inferred.get(from.name) ?? 'VARCHAR', misfits: misfitsOf(mode) },
  }))
  const open = targets.filter(({ from, to, follows }) => follows && !sameType(from.type, to.type))
  const counts = await countMisfits(connection, staging, open)
  for (const [index, pair] of open.entries()) {
    if ((counts[index] ?? 0) === 0) continue
    const wider = await widerType(connection, staging, pair.from, pair.to.type)
    retyped.push({ change: 'widen', column: pair.to.name, from: pair.to.type, to: wider })
    pair.to.type = wider
  }
  return { targets: targets.map(({ to }) => to), retyped }
}

// A declared type holds for what the contract would otherwise let grow.
const misfitsOf = (mode: ContractMode): TargetColumn['misfits'] => (mode === 'evolve' ? 'discard_row' : mode)

// What the organisation declares for all its tables holds only where a table has no type of its own yet.
function declaredType(name: string, { declared, schemaFiles }: Conformity, isOld: boolean): string | undefined {
  const step = Object.entries(declared).find(([column]) => same(column, name))?.[1]
  return (
    step ?? byName(schemaFiles.table, name)?.type ?? (isOld ? undefined : byName(schemaFiles.organisation, name)?.type)
  )
}

function retype(old: Column, declared: string, want: Conformity): (SchemaChange & { to: string }) | undefined {
  if (sameType(old.type, declared)) return undefined
  const change = { column: old.name, from: old.type, to: canonicalType(declared) }
  if (isWider(old.type, declared) && want.contract.type(old.name) !== 'freeze') return { change: 'widen', ...change }
  if (want.allowsLoss) return { change: 'narrow', ...change }
  throw lossRefused(`The column ${old.name} is ${old.type} in the table, but declared ${declared}: changing it`)
}

const lossRefused = (what: string): AppError =>
  new AppError('SCHEMA_MISMATCH', `${what} needs an approved plan.`, {
    hint: 'Rehearse the load with dry_run: true, look at what it would take away, and give its hash as plan.',
  })

// The narrowest type that holds the values of the table and those that are staged, both letter by letter.
async function widerType(connection: Connection, staging: Staging, from: Column, type: string): Promise<string> {
  const value = `s.${quoted(from.name)}::VARCHAR`
  const [row] = await connection.rows(
    `SELECT bool_and(regexp_full_match(v, '[+-]?[0-9]+(\\.[0-9]*)?')) AS numbers,
       max(strlen(ltrim(ltrim(split_part(v, '.', 1), '+-'), '0')))::INTEGER AS whole,
       max(strlen(rtrim(split_part(v, '.', 2), '0')))::INTEGER AS scale,
       bool_and(coalesce(${fits('TIMESTAMP', 'v')}, false)) AS moments, bool_and(coalesce(${fits('DOUBLE', 'v')}, false)) AS doubles
     FROM (SELECT ${value} AS v FROM ${staging.relation} s ANTI JOIN rejected r ON s.__row = r.__row) WHERE v IS NOT NULL`,
  )
  const digits = digitsOf(type)
  if (digits && row?.['numbers'] === true) {
    const whole = Math.max(digits.whole, Number(row['whole']))
    const scale = Math.max(digits.scale, Number(row['scale']))
    if (scale > 0) return whole + scale <= 38 ? `DECIMAL(${whole + scale},${scale})` : 'VARCHAR'
    return whole <= 18 ? 'BIGINT' : whole <= 38 ? 'HUGEINT' : 'VARCHAR'
  }
  const name = canonicalType(type)
  if (name === 'DATE' && row?.['moments'] === true) return 'TIMESTAMP'
  if (name === 'FLOAT' && row?.['doubles'] === true) return 'DOUBLE'
  return 'VARCHAR'
}

// A column that the table's schema file calls NOT NULL.
async function rejectEmpty(connection: Connection, staging: Staging, schema: SchemaFile): Promise<void> {
  for (const { name, isRequired } of schema) {
    if (!isRequired) continue
    const column = byName(staging.columns, name)
    if (!column)
      throw new AppError('SCHEMA_MISMATCH', `The source has no column ${JSON.stringify(name)}, which may not be empty.`)
    await connection.run(
      `INSERT INTO rejected SELECT s.__row >> ${fileShift}, s.__row, NULL, NULL, NULL, $1, 'REQUIRED',
         'the column may not be empty', ${rawText(staging.columns, 's.')}
       FROM ${staging.relation} s ANTI JOIN rejected r ON s.__row = r.__row WHERE s.${quoted(column.name)} IS NULL`,
      [column.name],
    )
  }
}

const same = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase()

function byName<C extends { name: string }>(columns: readonly C[], name: string): C | undefined {
  return columns.find((column) => same(column.name, name))
}
