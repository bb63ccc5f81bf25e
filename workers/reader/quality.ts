import { z } from 'zod'
import type { Reading } from './reading.ts'
import { momentShape } from './reading.ts'
import { needTable } from './need-table.ts'
import type { Bindable } from '../lake/connection.ts'

const given = z.object({ since: momentShape, until: momentShape })

/** What was measured of a table, newest first: its trend over time. */
export const quality: Reading<typeof given> = {
  arguments: given,
  async query(connection, name, { since, until }) {
    await needTable(connection, name)
    const values: Bindable[] = [name]
    const at = (value: string): string => `$${values.push(value)}::TIMESTAMPTZ`
    const from = since ? `AND measured_at >= ${at(since)}` : ''
    const before = until ? `AND measured_at < ${at(until)}` : ''
    return {
      from: `SELECT epoch_us(measured_at) AS first, md5(run_id || ' ' || step_key) AS second,
          epoch_ms(measured_at)::DOUBLE AS measured, run_id AS run, step_key AS step, score, row_count::DOUBLE AS rows,
          checks::DOUBLE AS checks, failed::DOUBLE AS failed
        FROM lake.raw.x_meta_quality_metrics WHERE table_name = $1 ${from} ${before}`,
      values,
      order: 'first DESC, second',
    }
  },
}
