import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import type { BoundSql, Column } from '../define.ts'
import type { Connection } from '../lake/connection.ts'
import { literal, quoted } from '../lake/names.ts'
import { conditionSql } from './expression-sql.ts'

const expression = z.string().min(1).max(2000).meta({ 'x-sql': true })

/** How rows of the quarantine are put right before they are loaded again. */
export const corrections = z
  .strictObject({
    set: z
      .record(z.string().min(1).max(255), expression)
      .default({})
      .describe('New values of columns, as expressions over the texts of the row.'),
    where: expression.optional().describe('Only rows for which this holds are changed.'),
    file: z
      .string()
      .min(1)
      .optional()
      .describe('A CSV file with rejected_id and the columns to replace; what is empty there stays as it is.'),
  })
  .describe('What is changed in the rows.')

/**
 * Corrects the rows of the temporary table `staged`, first by the file, then by the expressions.
 * Throws CONFIG_INVALID for a column that the rows do not have and for what cannot be read.
 */
export async function correct(
  connection: Connection,
  columns: readonly Column[],
  { set, where }: z.output<typeof corrections>,
  file: string | undefined,
  bind: (text: string) => BoundSql,
): Promise<void> {
  if (file !== undefined) await correctByFile(connection, columns, file)
  const changes = Object.entries(set).map(
    ([name, text]) => `${find(columns, name)} = (${conditionSql(bind(text), columns).sql})::VARCHAR`,
  )
  if (changes.length === 0) return
  const which = where === undefined ? '' : `WHERE ${conditionSql(bind(where), columns).sql}`
  await connection.run(`UPDATE temp.staged SET ${changes.join(', ')} ${which}`)
}

async function correctByFile(connection: Connection, columns: readonly Column[], path: string): Promise<void> {
  const read = `read_csv(${literal(path)}, header = true, all_varchar = true, allow_quoted_nulls = false)`
  const described = await connection.rows(`DESCRIBE SELECT * FROM ${read}`)
  const names = described.map((row) => String(row['column_name']))
  if (!names.includes('rejected_id'))
    throw new AppError('CONFIG_INVALID', 'The file of corrections has no column rejected_id.')
  const changed = names.filter((name) => name !== 'rejected_id')
  const sets = changed.map(
    (name) => `${find(columns, name)} = coalesce(c.${quoted(name)}, staged.${find(columns, name)})`,
  )
  if (sets.length === 0) return
  await connection.run(
    `UPDATE temp.staged SET ${sets.join(', ')} FROM (
       SELECT * FROM ${read} QUALIFY row_number() OVER (PARTITION BY rejected_id) = 1) c WHERE c.rejected_id = staged.__id`,
  )
}

function find(columns: readonly Column[], given: string): string {
  const column = columns.find(({ name }) => name.toLowerCase() === given.toLowerCase())
  if (column) return quoted(column.name)
  throw new AppError('CONFIG_INVALID', `The quarantined rows have no column ${JSON.stringify(given)}.`)
}
