import { z } from 'zod'
import { defineProcessor, type StepResult } from '../../define.ts'
import { capRows } from '../../lake/cap-rows.ts'
import { register } from '../../lake/catalog.ts'
import type { Connection } from '../../lake/connection.ts'
import { attemptOf } from '../../lake/destination.ts'
import { findPlain, preparePlain } from '../../lake/load-plain.ts'
import { plainOf, quoted, tableName } from '../../lake/names.ts'
import { findReceipt, type LoadCounts, loadOnce } from '../../lake/receipt.ts'
import { checkStatement, sqlError, type Statement } from '../../lake/statement.ts'

/** Puts the result of a SELECT over the tenant's tables into a table. */
export default defineProcessor({
  type: 'sql.transform',
  title: 'Transform with SQL',
  description: 'Runs one SELECT over the tables of the tenant and keeps the result as a table.',
  queue: 'transform',
  settings: z.strictObject({
    query: z.string().min(1).meta({ 'x-sql': true }).describe('One SELECT over the tables of the tenant.'),
    destination: z.strictObject({
      table: tableName.describe('The table that takes the result; it keeps no versions.'),
      mode: z.enum(['replace', 'append']).default('replace'),
    }),
  }),
  credentialProviders: [],
  async run(ctx, { query, destination }): Promise<StepResult> {
    using connection = await ctx.lake.connectForTenant(ctx.signal)
    const done = await findReceipt(connection, attemptOf(ctx))
    if (done) return { outputs: outputsOf(destination.table, done) }
    const statement = await checkStatement(connection, ctx.bindSql(query))
    const counts = await loadOnce(connection, attemptOf(ctx), destination.table, async () => {
      const inserted = await write(connection, destination, statement).catch((error: unknown) => {
        throw sqlError(error)
      })
      capRows(destination.table, inserted, ctx.limits)
      return { rowsIn: inserted, rejected: 0, inserted, updated: 0, deleted: 0, unchanged: 0 }
    })
    return { outputs: outputsOf(destination.table, counts) }
  },
})

async function write(
  connection: Connection,
  to: { table: string; mode: 'replace' | 'append' },
  statement: Statement,
): Promise<number> {
  const table = plainOf(to.table)
  const names = statement.columns.map((column) => quoted(column.name)).join(', ')
  const select = `SELECT ${names} FROM (\n${statement.text}\n)`
  if (to.mode === 'append') {
    await preparePlain(connection, to.table, 'append', statement.columns)
    return await connection.run(`INSERT INTO ${table} (${names}) ${select}`, statement.values)
  }
  // One statement, for the query may read the table that it replaces.
  await findPlain(connection, to.table)
  await connection.run(`CREATE OR REPLACE TABLE ${table} AS ${select}`, statement.values)
  await register(connection, to.table, 'plain', [])
  const [counted] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM ${table}`)
  return Number(counted?.['n'])
}

const outputsOf = (table: string, counts: LoadCounts): StepResult['outputs'] => ({ table, rows: counts.inserted })
