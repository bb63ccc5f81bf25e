import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { asOf } from '../lake/as-of.ts'
import { plainOf, quoted, versionsOf } from '../lake/names.ts'
import { needTable, needVersions, valuesOf } from './need-table.ts'
import { momentShape, type Reading } from './reading.ts'

const given = z.object({ at: momentShape, load: z.number().int().min(0).nullish() })

/** Rows of a table as they are, or of a versioned one as they were: in the order of their keys, or of their places. */
export const rows: Reading<typeof given> = {
  arguments: given,
  async query(connection, name, { at, load }) {
    if (at && load !== null && load !== undefined)
      throw new AppError('BAD_INPUT', 'Give at or load: one point in time.')
    const point = at ? { moment: at } : load === null || load === undefined ? undefined : { load }
    const table = await (point ? needVersions : needTable)(connection, name)
    const values = valuesOf(table)
    if (table.kind === 'versioned') {
      const columns = [...table.columns.map((column) => column.name), 'composite_key']
      const from = point
        ? asOf(name, columns, point)
        : `(SELECT * FROM ${versionsOf(name)} WHERE is_current AND NOT is_deleted)`
      return {
        from: `SELECT composite_key AS first, '' AS second, composite_key AS "key", ${values} AS "values" FROM ${from}`,
        values: [],
        order: 'first, second',
      }
    }
    // A view has no places: its rows are counted in an order over all columns.
    const all = table.columns.map((column) => quoted(column.name)).join(', ')
    const place = table.kind === 'view' ? `row_number() OVER (ORDER BY ${all})` : 'rowid'
    return {
      from: `SELECT lpad((${place})::VARCHAR, 20, '0') AS first, '' AS second, NULL::VARCHAR AS "key", ${values} AS "values"
        FROM ${plainOf(name)}`,
      values: [],
      order: 'first, second',
    }
  },
}
