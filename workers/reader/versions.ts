import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import type { Bindable } from '../lake/connection.ts'
import { versionsOf } from '../lake/names.ts'
import { findKey } from '../lake/restore.ts'
import { needVersions, valuesOf } from './need-table.ts'
import { momentShape, type Reading } from './reading.ts'

const given = z.object({
  key: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).nullish(),
  since: momentShape,
  until: momentShape,
  changeTypes: z.array(z.enum(['INSERT', 'UPDATE', 'DELETE'])).nullish(),
  changedBy: z.string().max(200).nullish(),
})

/** Versions of a table's records, newest first: of one record, or of all with the filters. */
export const versions: Reading<typeof given> = {
  arguments: given,
  async query(connection, name, wanted) {
    const table = await needVersions(connection, name)
    const values: Bindable[] = []
    const conditions = changesBetween(wanted, values)
    const { key, changeTypes, changedBy } = wanted
    if (key) conditions.push(`v.composite_key = $${values.push(await keyOf(key))}`)
    if (changeTypes)
      conditions.push(`list_contains(string_split($${values.push(changeTypes.join())}, ','), v.change_type)`)
    if (changedBy) conditions.push(`v.changed_by_user_id = $${values.push(changedBy)}`)
    return {
      from: `SELECT epoch_us(v.last_modified) AS first, v.composite_key AS second, v.composite_key AS "key",
          v.version AS version, v.previous_version AS previous, v.change_type AS change, v.changed_fields AS fields,
          v.changed_by_user_id AS who, epoch_ms(v.last_modified)::DOUBLE AS happened, v.run_id AS run, v.step_key AS step,
          v.source_file AS file, v.load_number::DOUBLE AS load, v.data_hash AS hash, p.data_hash AS "previousHash",
          ${valuesOf(table, 'v.')} AS "values"
        FROM ${versionsOf(name)} v
        LEFT JOIN ${versionsOf(name)} p ON p.composite_key = v.composite_key AND p.version = v.previous_version
        WHERE ${conditions.join(' AND ') || 'true'}`,
      values,
      order: 'first DESC, second',
    }

    // A record that the table never had is as little there as a table of another tenant.
    async function keyOf(record: NonNullable<typeof key>): Promise<string> {
      try {
        return await findKey(connection, table, record)
      } catch (error) {
        if (error instanceof AppError && error.code === 'NOT_FOUND')
          throw new AppError('NOT_FOUND', 'There is no such record.')
        throw error
      }
    }
  },
}

/** Conditions on versions `v` for a span of time; what is bound goes to `values`. */
export function changesBetween(
  { since, until }: { since?: string | null | undefined; until?: string | null | undefined },
  values: Bindable[],
): string[] {
  const at = (value: string): string => `$${values.push(value)}::TIMESTAMPTZ`
  return [...(since ? [`v.last_modified >= ${at(since)}`] : []), ...(until ? [`v.last_modified < ${at(until)}`] : [])]
}
