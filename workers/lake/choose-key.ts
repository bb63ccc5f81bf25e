import { AppError } from '../../shared/errors.ts'
import type { Column } from '../define.ts'
import { register, type Table } from './catalog.ts'
import { compositeKey } from './composite-key.ts'
import type { Connection } from './connection.ts'
import { literal, quoted, versionsOf } from './names.ts'

/**
 * Holds the business key that a step gives against that of the table, and gives the table with the key that counts. An
 * empty one means the table's. A key that was only detected may be replaced by a given one, as long as both tell the same
 * records apart in every version: the composite keys are then written anew and history goes on. Throws KEY_INVALID.
 */
export async function chooseKey(
  connection: Connection,
  orgId: string,
  table: Table,
  given: readonly string[],
): Promise<Table> {
  if (given.length === 0) return table
  const isSame = form(given) === form(table.businessKey)
  if (isSame && table.keySource === 'given') return table
  if (isSame) {
    await register(connection, table.name, table.kind, table.businessKey, 'given')
    return { ...table, keySource: 'given' }
  }
  if (table.keySource === 'given')
    throw new AppError(
      'KEY_INVALID',
      `The table ${table.name} has the business key ${table.businessKey.join(', ')}, not ${given.join(', ')}.`,
    )
  const keys = given.map((name) => keyColumn(name, table.columns))
  await rewriteKeys(connection, orgId, table, keys)
  const businessKey = keys.map(({ name }) => name)
  await register(connection, table.name, table.kind, businessKey, 'given')
  return { ...table, businessKey, keySource: 'given' }
}

/** The column of this name, in whatever case. Throws KEY_INVALID when there is none. */
export function keyColumn(name: string, columns: readonly Column[]): Column {
  const column = columns.find((column) => column.name.toLowerCase() === name.toLowerCase())
  if (column) return column
  throw new AppError('KEY_INVALID', `The source has no column ${JSON.stringify(name)} for the business key.`)
}

async function rewriteKeys(
  connection: Connection,
  orgId: string,
  table: Table,
  keys: readonly Column[],
): Promise<void> {
  const target = versionsOf(table.name)
  const key = compositeKey(orgId, table.name, keys)
  const [found] = await connection.rows(
    `SELECT count(DISTINCT composite_key)::BIGINT AS old, count(DISTINCT k)::BIGINT AS new,
       count(DISTINCT hash(composite_key, k))::BIGINT AS pairs, count(*) FILTER (k IS NULL)::BIGINT AS without
     FROM (SELECT composite_key, ${key} AS k FROM ${target})`,
  )
  const [before, after, pairs] = [Number(found?.['old']), Number(found?.['new']), Number(found?.['pairs'])]
  if (Number(found?.['without']) > 0 || before !== after || before !== pairs)
    throw new AppError(
      'KEY_INVALID',
      `The table ${table.name} was loaded by the key ${table.businessKey.join(', ')}, which was found in its rows; ${keys.map(({ name }) => name).join(', ')} tells other records apart in its history.`,
      { hint: 'Keep the key that was found, or load into a new table.' },
    )
  await connection.run(
    `UPDATE ${target} SET composite_key = ${key} WHERE ${keys.map(({ name }) => `${quoted(name)} IS NOT NULL`).join(' AND ')}`,
  )
}

const form = (names: readonly string[]): string => literal(names.join('\u001f').toLowerCase())
