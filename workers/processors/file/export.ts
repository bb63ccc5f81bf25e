import { rename } from 'node:fs/promises'
import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { hashFile } from '../../delivery/hash-file.ts'
import { copyOptions, formats } from '../../formats/copy-options.ts'
import { needTable } from '../../lake/catalog.ts'
import type { Bindable, Connection } from '../../lake/connection.ts'
import { literal, plainOf, quoted, tableName, versionsOf } from '../../lake/names.ts'
import { checkStatement, sqlError } from '../../lake/statement.ts'
import { partName, splitName, splitPattern, sweepParts } from '../../delivery/part-files.ts'

const source = z.union([
  z.strictObject({
    query: z.string().min(1).meta({ 'x-sql': true }).describe('One SELECT over the tables of the tenant.'),
  }),
  z.strictObject({ table: tableName.describe('A whole table: the current rows, business columns only.') }),
  z.strictObject({
    changes: z
      .strictObject({ table: tableName })
      .describe('What this run changed in a versioned table: change_type and the business columns.'),
  }),
])
const settings = z.strictObject({
  source,
  destination: z.strictObject({
    path: z.string().min(1).describe('The file to make in the tenant folder. One that is there is replaced.'),
    format: z.enum(formats).default('csv'),
    header: z.boolean().default(true).describe('CSV: names in the first line.'),
    delimiter: z
      .string()
      .regex(/^[\t -~]$/, 'one character')
      .default(','),
    split_rows: z
      .int()
      .min(1)
      .optional()
      .describe('At most so many rows in a file; the files are called name-0001.csv, name-0002.csv …'),
    compression: z.enum(['zstd', 'snappy', 'none']).default('zstd').describe('Parquet only.'),
  }),
})
type Settings = z.output<typeof settings>
type Select = { text: string; values: readonly Bindable[] }
type Part = { path: string; bytes: number; rows: number; sha256: string }

const partsMax = 1000

/** Writes the result of a query, a table, or what a run changed into files of the tenant's folder. */
export default defineProcessor({
  type: 'file.export',
  title: 'Export files',
  description: 'Writes a query, a table or the changes of this run as CSV, NDJSON, JSON or Parquet, whole or in parts.',
  queue: 'export',
  settings,
  credentialProviders: [],
  async run(ctx, { source, destination }): Promise<StepResult> {
    using connection = await ctx.lake.connectForTenant(ctx.signal)
    const select = await selectOf(connection, ctx, source)
    const target = await ctx.files.prepare(destination.path)
    await sweepParts(target)
    const written =
      destination.split_rows === undefined
        ? [await writePart(connection, ctx, select, destination, destination.path)]
        : await writeParts(connection, ctx, select, destination, destination.split_rows)
    // Nothing stands under a final name before all files are whole.
    for (const part of written) {
      const absolute = await ctx.files.resolve(part.path)
      await rename(partName(absolute, ctx.step.fence), absolute)
    }
    if (destination.split_rows !== undefined) await sweepParts(target, written.length)
    const rows = written.reduce((sum, part) => sum + part.rows, 0)
    const bytes = written.reduce((sum, part) => sum + part.bytes, 0)
    const path = destination.split_rows === undefined ? destination.path : splitPattern(destination.path)
    return { outputs: { path, rows, bytes, files: written } }
  },
})

async function selectOf(connection: Connection, ctx: StepContext, source: Settings['source']): Promise<Select> {
  if ('query' in source) return await checkStatement(connection, ctx.bindSql(source.query))
  const table = await needTable(connection, 'table' in source ? source.table : source.changes.table)
  if ('table' in source) return { text: `SELECT * FROM ${plainOf(table.name)}`, values: [] }
  if (table.kind !== 'versioned')
    throw new AppError('SCHEMA_MISMATCH', `The table ${table.name} keeps no versions, so its changes are not known.`)
  const columns = table.columns.map(({ name }) => quoted(name)).join(', ')
  // Two steps of a run may change the same row: the state that the run leaves behind counts.
  return {
    text: `SELECT change_type, ${columns} FROM ${versionsOf(table.name)} WHERE run_id = $1
      QUALIFY row_number() OVER (PARTITION BY composite_key ORDER BY version DESC) = 1`,
    values: [ctx.run.id],
  }
}

async function writePart(
  connection: Connection,
  ctx: StepContext,
  select: Select,
  to: Settings['destination'],
  path: string,
): Promise<Part> {
  const part = partName(await ctx.files.resolve(path), ctx.step.fence)
  let rows: number
  try {
    rows = await connection.run(`COPY (\n${select.text}\n) TO ${literal(part)} (${copyOptions(to)})`, select.values)
  } catch (error) {
    throw sqlError(error)
  }
  return { path, rows, ...(await hashFile(part, ctx.signal)) }
}

async function writeParts(
  connection: Connection,
  ctx: StepContext,
  select: Select,
  to: Settings['destination'],
  rowsPerPart: number,
): Promise<Part[]> {
  // Once into a temporary table, so that every part is of the same result and keeps the order of the query.
  try {
    await connection.run(`CREATE OR REPLACE TEMP TABLE part_source AS\n${select.text}`, select.values)
  } catch (error) {
    throw sqlError(error)
  }
  const [counted] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM part_source`)
  const total = Number(counted?.['n'])
  const parts = Math.max(1, Math.ceil(total / rowsPerPart))
  if (parts > partsMax)
    throw new AppError('TOO_LARGE', `${total} rows would make ${parts} files, more than ${partsMax}: raise split_rows.`)
  const written: Part[] = []
  let rows = 0
  for (let index = 0; index < parts; index++) {
    const range = `SELECT * FROM part_source WHERE rowid >= ${index * rowsPerPart} AND rowid < ${(index + 1) * rowsPerPart} ORDER BY rowid`
    const part = await writePart(connection, ctx, { text: range, values: [] }, to, splitName(to.path, index + 1))
    written.push(part)
    rows += part.rows
    ctx.progress({ done: rows, total, unit: 'rows' })
  }
  return written
}
