import { z } from 'zod'
import type { Bindable } from '../lake/connection.ts'
import { versionsOf } from '../lake/names.ts'
import { needVersions } from './need-table.ts'
import { momentShape, type Reading } from './reading.ts'
import { changesBetween } from './versions.ts'

const given = z.object({ since: momentShape, until: momentShape, of: z.enum(['record', 'field']) })

/** How often each record of a table was changed, or each of its fields, the most often changed first. */
export const frequency: Reading<typeof given> = {
  arguments: given,
  async query(connection, name, { of, ...span }) {
    await needVersions(connection, name)
    const values: Bindable[] = []
    const conditions = changesBetween(span, values)
    const what = of === 'record' ? 'v.composite_key' : 'unnest(v.changed_fields)'
    return {
      // A name of a column may be longer than a place in a list.
      from: `SELECT changes AS first, md5(name) AS second, * REPLACE (changes::DOUBLE AS changes) FROM (
          SELECT name, count(*) AS changes, count(DISTINCT who)::DOUBLE AS users,
            epoch_ms(min(happened))::DOUBLE AS "firstAt", epoch_ms(max(happened))::DOUBLE AS "lastAt"
          FROM (SELECT ${what} AS name, v.changed_by_user_id AS who, v.last_modified AS happened
            FROM ${versionsOf(name)} v WHERE ${conditions.join(' AND ') || 'true'}) GROUP BY 1)`,
      values,
      order: 'first DESC, second',
    }
  },
}
