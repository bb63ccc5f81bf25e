import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import type { Connection } from '../lake/connection.ts'
import { sameType } from '../lake/fit-columns.ts'
import type { Staging } from '../lake/staging.ts'
import { inferTypes } from './infer-types.ts'

/**
 * The types that staged columns shall have: those of the table that is there, then those that the step declares, then,
 * for text, what all values allow. Throws SCHEMA_MISMATCH when a declared column is not in the source or contradicts the
 * table.
 */
export async function targetColumns(
  connection: Connection,
  staging: Staging,
  declared: Readonly<Record<string, string>>,
  existing: readonly Column[],
): Promise<Column[]> {
  const there = new Map(existing.map((column) => [column.name.toLowerCase(), column]))
  const wanted = new Map(Object.entries(declared).map(([name, type]) => [name.toLowerCase(), type]))
  for (const [name, type] of wanted) {
    if (!staging.columns.some((column) => column.name.toLowerCase() === name))
      throw new AppError(
        'SCHEMA_MISMATCH',
        `The source has no column ${JSON.stringify(name)}, which the step declares.`,
      )
    const old = there.get(name)
    if (old && !sameType(old.type, type))
      throw new AppError('SCHEMA_MISMATCH', `The column ${name} is ${old.type} in the table, but declared ${type}.`)
  }
  const untyped = new Set(staging.untyped)
  const known = staging.columns.map((column) => {
    const name = column.name.toLowerCase()
    const old = there.get(name)
    const type = old?.type ?? wanted.get(name) ?? (untyped.has(column.name) ? undefined : column.type)
    return { name: old?.name ?? column.name, type }
  })
  const unknown = known.filter((column) => column.type === undefined).map((column) => column.name)
  const inferred = new Map(
    (await inferTypes(connection, staging.relation, unknown)).map((column) => [column.name, column.type]),
  )
  return known.map(({ name, type }) => ({ name, type: type ?? inferred.get(name) ?? 'VARCHAR' }))
}
