import { AppError } from '../../shared/errors.ts'
import type { StepContext } from '../define.ts'
import { capRows } from '../lake/cap-rows.ts'
import { findTable, register } from '../lake/catalog.ts'
import { keyColumn } from '../lake/choose-key.ts'
import type { Connection } from '../lake/connection.ts'
import { destination, loadInto } from '../lake/destination.ts'
import { findPlain, preparePlain } from '../lake/load-plain.ts'
import { plainOf, quoted } from '../lake/names.ts'
import { type Attempt, type LoadCounts, loadOnce, type RowCounts } from '../lake/receipt.ts'
import { keysFrom, openRejected, type Staging } from '../lake/staging.ts'
import { sqlError, type Statement } from '../lake/statement.ts'
import type { Model } from './model.ts'
import { viewText } from './view-text.ts'

/**
 * Puts the result of a statement where its model wants it, in one transaction with the receipt of `attempt`. A versioned
 * model, and one by partition, is a load like that of a file. Throws QUOTA_EXCEEDED for more rows than the plan allows,
 * KEY_INVALID for a merge by a key that is empty or double in the result, SCHEMA_MISMATCH for a name of another kind.
 */
export async function loadModel(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  model: Model,
  statement: Statement,
): Promise<LoadCounts> {
  const { name, mode } = model
  if (mode === 'view') return await once(connection, attempt, name, () => writeView(connection, name, statement))
  if (mode === 'append' || (mode === 'replace' && model.partition_by.length === 0))
    return await once(connection, attempt, name, async () => {
      const inserted = await writeDirectly(connection, name, mode, statement)
      capRows(name, inserted, ctx.limits)
      return { inserted }
    })
  const staging = await stage(connection, ctx, name, statement)
  if (mode === 'merge')
    return await once(connection, attempt, name, () => merge(connection, name, model.business_key, staging))
  const { business_key, snapshot, partition_by } = model
  // What a query gives is all there is.
  const to = destination.parse({ table: name, mode, business_key, snapshot, partition_by, delete_limit: 1 })
  return await loadInto(connection, { ...ctx, step: { ...ctx.step, key: attempt.stepKey } }, to, staging)
}

function once(
  connection: Connection,
  attempt: Attempt,
  table: string,
  write: () => Promise<Partial<RowCounts>>,
): Promise<LoadCounts> {
  return loadOnce(connection, attempt, table, async () => {
    const done = await write().catch((error: unknown) => {
      throw sqlError(error)
    })
    const { inserted = 0, updated = 0 } = done
    return { rowsIn: inserted + updated, rejected: 0, inserted, updated, deleted: 0, unchanged: 0, ...done }
  })
}

async function writeDirectly(
  connection: Connection,
  name: string,
  mode: 'replace' | 'append',
  statement: Statement,
): Promise<number> {
  const table = plainOf(name)
  const select = selectOf(statement)
  if (mode === 'append') {
    await preparePlain(connection, name, 'append', statement.columns)
    return await connection.run(`INSERT INTO ${table} BY NAME ${select}`, statement.values)
  }
  // One statement, for the query may read the table that it replaces.
  await findPlain(connection, name)
  await connection.run(`CREATE OR REPLACE TABLE ${table} AS ${select}`, statement.values)
  await register(connection, name, 'plain', [])
  const [counted] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM ${table}`)
  return Number(counted?.['n'])
}

async function writeView(connection: Connection, name: string, statement: Statement): Promise<Partial<RowCounts>> {
  const found = await findTable(connection, name)
  if (found && found.kind !== 'view')
    throw new AppError('SCHEMA_MISMATCH', `The table ${name} has rows of its own: a view needs another name.`)
  if (statement.seen.tables.some((table) => table.name === name))
    throw new AppError('CONFIG_INVALID', `The view ${name} cannot read itself: nothing else keeps its rows.`)
  await connection.run(`CREATE OR REPLACE VIEW ${plainOf(name)} AS ${await viewText(connection, statement)}`)
  await register(connection, name, 'view', [])
  return {}
}

async function stage(connection: Connection, ctx: StepContext, name: string, statement: Statement): Promise<Staging> {
  await openRejected(connection)
  await connection
    .run(`CREATE OR REPLACE TEMP TABLE transformed AS ${selectOf(statement)}`, statement.values)
    .catch((error: unknown) => {
      throw sqlError(error)
    })
  const [counted] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM temp.transformed`)
  capRows(name, Number(counted?.['n']), ctx.limits)
  return {
    columns: statement.columns,
    untyped: [],
    relation: `(SELECT s.*, s.rowid AS __row FROM temp.transformed s ANTI JOIN rejected r ON s.rowid = r.__row)`,
    keep: '__row DESC',
    keysOfRejected: keysFrom('(SELECT *, rowid AS __row FROM temp.transformed)'),
    files: [],
    locate: async () => {},
  }
}

async function merge(
  connection: Connection,
  name: string,
  businessKey: readonly string[],
  staging: Staging,
): Promise<Partial<RowCounts>> {
  if (businessKey.length === 0) throw new AppError('KEY_INVALID', `The mode merge of ${name} needs a business_key.`)
  const keys = businessKey.map((key) => quoted(keyColumn(key, staging.columns).name))
  const [odd] = await connection.rows(
    `SELECT coalesce(sum(n) FILTER (${keys.map((key) => `${key} IS NULL`).join(' OR ')}), 0)::BIGINT AS empty,
       coalesce(sum(n) FILTER (n > 1), 0)::BIGINT AS doubled, coalesce(sum(n), 0)::BIGINT AS total
     FROM (SELECT ${keys.join(', ')}, count(*) AS n FROM temp.transformed GROUP BY ALL)`,
  )
  const [empty, doubled, total] = [Number(odd?.['empty']), Number(odd?.['doubled']), Number(odd?.['total'])]
  if (empty + doubled > 0)
    throw new AppError(
      'KEY_INVALID',
      `Of the rows for ${name}, ${empty} have no ${businessKey.join(', ')} and ${doubled} share theirs with another.`,
      { hint: 'Let the query give one row for each key.' },
    )
  await preparePlain(connection, name, 'append', staging.columns)
  const same = keys.map((key) => `s.${key} = t.${key}`).join(' AND ')
  const updated = await connection.run(
    `DELETE FROM ${plainOf(name)} AS t WHERE EXISTS (SELECT 1 FROM temp.transformed s WHERE ${same})`,
  )
  await connection.run(`INSERT INTO ${plainOf(name)} BY NAME SELECT * FROM temp.transformed`)
  return { inserted: total - updated, updated }
}

const selectOf = ({ columns, text }: Statement): string =>
  `SELECT ${columns.map((column) => quoted(column.name)).join(', ')} FROM (\n${text}\n)`
