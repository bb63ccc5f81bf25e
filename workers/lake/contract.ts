import { z } from 'zod'

const mode = z.enum(['evolve', 'freeze', 'discard_row', 'discard_value'])
const missing = z.enum(['refuse', 'null', 'drop'])

/**
 * What happens when the source no longer looks like the table. `evolve`: the table follows (a new column is added, a type
 * is widened). `freeze`: the load is refused. `discard_row`: the row is quarantined. `discard_value`: the row gets in
 * without the value, which is quarantined.
 */
export type ContractMode = z.output<typeof mode>

/** A contract as a step gives it. */
export const contract = z
  .union([
    mode,
    z.strictObject({
      new_columns: mode.default('evolve').describe('A column that the table does not have.'),
      types: mode.default('discard_row').describe('A value that does not fit the type of its column.'),
      missing_columns: missing
        .default('refuse')
        .describe('A column that the source no longer has. drop needs an approved plan.'),
      columns: z
        .record(z.string().min(1).max(255), mode)
        .default({})
        .describe('Another mode for single columns, new ones and those of the table.'),
    }),
  ])
  .describe(
    'What happens when the source no longer looks like the table: evolve, freeze, discard_row or discard_value, for all of it or by part. By default new columns are added, values that do not fit are quarantined with their row, and a missing column is refused.',
  )

/** A contract, answered question by question. */
export type Contract = {
  newColumn(name: string): ContractMode
  type(name: string): ContractMode
  missing: z.output<typeof missing>
}

/** The contract that a step gives, or the default one. */
export function contractOf(given: z.output<typeof contract> | undefined): Contract {
  if (typeof given === 'string')
    return { newColumn: () => given, type: () => given, missing: given === 'freeze' ? 'refuse' : 'null' }
  const columns = new Map(Object.entries(given?.columns ?? {}).map(([name, mode]) => [name.toLowerCase(), mode]))
  return {
    newColumn: (name) => columns.get(name.toLowerCase()) ?? given?.new_columns ?? 'evolve',
    type: (name) => columns.get(name.toLowerCase()) ?? given?.types ?? 'discard_row',
    missing: given?.missing_columns ?? 'refuse',
  }
}
