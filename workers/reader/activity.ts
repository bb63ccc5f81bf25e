import { z } from 'zod'
import type { Bindable } from '../lake/connection.ts'
import { versionsOf } from '../lake/names.ts'
import { needVersions } from './need-table.ts'
import { momentShape, type Reading } from './reading.ts'
import { changesBetween } from './versions.ts'

const given = z.object({ since: momentShape, until: momentShape, per: z.enum(['hour', 'day', 'week', 'month']) })

/** Who changed how much of a table, by hour, day, week or month in UTC, the newest first. */
export const activity: Reading<typeof given> = {
  arguments: given,
  async query(connection, name, { per, ...span }) {
    await needVersions(connection, name)
    const values: Bindable[] = []
    const conditions = changesBetween(span, values)
    return {
      from: `SELECT epoch_ms(bucket) AS first, who AS second, epoch_ms(bucket)::DOUBLE AS bucket, * EXCLUDE (bucket) FROM (
          SELECT date_trunc('${per}', v.last_modified) AS bucket, v.changed_by_user_id AS who,
            count(*) FILTER (v.change_type = 'INSERT')::DOUBLE AS inserted,
            count(*) FILTER (v.change_type = 'UPDATE')::DOUBLE AS updated,
            count(*) FILTER (v.change_type = 'DELETE')::DOUBLE AS deleted,
            count(DISTINCT v.composite_key)::DOUBLE AS records, epoch_ms(max(v.last_modified))::DOUBLE AS "lastAt"
          FROM ${versionsOf(name)} v WHERE ${conditions.join(' AND ') || 'true'} GROUP BY 1, 2)`,
      values,
      order: 'first DESC, second',
    }
  },
}
