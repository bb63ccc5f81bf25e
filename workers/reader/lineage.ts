import { z } from 'zod'
import { needTable } from './need-table.ts'
import type { Reading } from './reading.ts'

const given = z.object({})

/** What a table was made from and what was made from it, by table and by column, as the last run of each step left it. */
export const lineage: Reading<typeof given> = {
  arguments: given,
  async query(connection, name) {
    await needTable(connection, name)
    return {
      from: `SELECT epoch_us(recorded_at) AS first, md5(concat_ws(chr(31), target_table, target_column, source_table, source_column, relation)) AS second,
          target_table AS target, target_column AS "targetColumn", source_table AS source, source_column AS "sourceColumn",
          relation, run_id AS run, step_key AS step, epoch_ms(recorded_at)::DOUBLE AS recorded
        FROM lake.raw.x_meta_lineage
        WHERE target_table = $1 OR source_table IN ($1, 'main.' || $1, 'raw.' || $1, 'raw.' || $1 || '_current')
        QUALIFY row_number() OVER (PARTITION BY target_table, target_column, source_table, source_column, relation
          ORDER BY recorded_at DESC) = 1`,
      values: [name],
      order: 'first DESC, second',
    }
  },
}
