import { loadQuality, type LoadQuality } from '../../schema/config/quality.ts'
import { AppError } from '../../shared/errors.ts'
import type { Column, StepContext } from '../define.ts'
import { capRows } from '../lake/cap-rows.ts'
import { findTable, register } from '../lake/catalog.ts'
import { keyColumn } from '../lake/choose-key.ts'
import type { Connection } from '../lake/connection.ts'
import { destination, loadInto } from '../lake/destination.ts'
import { findPlain, preparePlain } from '../lake/load-plain.ts'
import { plainOf, quoted } from '../lake/names.ts'
import { type Attempt, type LoadCounts, loadOnce, type RowCounts } from '../lake/receipt.ts'
import { keysFrom, openRejected, quarantine, type Staging } from '../lake/staging.ts'
import { sqlError, type Statement } from '../lake/statement.ts'
import { checkLoad } from '../quality/check-load.ts'
import type { Model } from './model.ts'
import { viewText } from './view-text.ts'

/**
 * Puts the result of a statement where its model wants it, in one transaction with the receipt of `attempt`. A versioned
 * model, and one by partition, is a load like that of a file. The result of a model with rules is held against them
 * before anything is written, as the rows of a file are. Throws QUOTA_EXCEEDED for more rows than the plan allows,
 * KEY_INVALID for a merge by a key that is empty or double in the result, SCHEMA_MISMATCH for a name of another kind, and
 * what `checkLoad` throws.
 */
export async function loadModel(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  model: Model,
  statement: Statement,
): Promise<LoadCounts> {
  const { name, mode, business_key, snapshot, partition_by } = model
  const own = { ...ctx, step: { ...ctx.step, key: attempt.stepKey } }
  const quality = qualityOf(model)
  const isLoad = mode === 'versioned' || (mode === 'replace' && partition_by.length > 0)
  if (!quality && !isLoad && mode !== 'merge')
    return await once(connection, attempt, name, () => write(connection, ctx, model, statement, selectOf(statement)))
  const staged = await stage(connection, statement)
  // A view keeps none of them.
  if (mode !== 'view') capRows(name, staged.rows, ctx.limits)
  if (isLoad) {
    // What a query gives is all there is.
    const to = destination.parse({ table: name, mode, business_key, snapshot, partition_by, delete_limit: 1 })
    return await loadInto(connection, own, { ...to, quality }, staged.staging)
  }
  const kept = mode === 'append' || mode === 'merge' ? 'append' : 'replace'
  const to = { table: name, mode: kept, dry_run: false, measuredAs: 'load' } as const
  const checked = quality && {
    ...(await checkLoad(connection, own, { ...to, quality }, staged.staging)),
    rows: staged.rows,
  }
  return await once(
    connection,
    attempt,
    name,
    () =>
      mode === 'merge'
        ? merge(connection, name, business_key, staged.staging)
        : write(connection, ctx, model, statement, { text: rowsOf(staged.staging), values: [] }),
    checked,
  )
}

type Checked = Awaited<ReturnType<typeof checkLoad>> & { rows: number }

type Select = { text: string; values: Statement['values'] }

// Others read a model as a whole: rows are left out of it only where a rule says so.
function qualityOf({ rules, fail_below }: Model): LoadQuality | undefined {
  if (rules.length === 0) return undefined
  const blocking = rules.map((rule) =>
    rule.action === undefined && rule.severity === 'error' ? { ...rule, action: 'block' as const } : rule,
  )
  return { ...loadQuality.parse({ profile: false }), fail_below, rules: blocking }
}

function once(
  connection: Connection,
  attempt: Attempt,
  table: string,
  write: () => Promise<Partial<RowCounts>>,
  checked?: Checked,
): Promise<LoadCounts> {
  return loadOnce(connection, attempt, table, async (current) => {
    const done = await write().catch((error: unknown) => {
      throw sqlError(error)
    })
    const { rejected } = checked ? await quarantine(connection, attempt, table, checked.staging) : { rejected: 0 }
    const { inserted = 0, updated = 0 } = done
    const rowsIn = checked?.rows ?? inserted + updated
    const counts = { rowsIn, rejected, inserted, updated, deleted: 0, unchanged: 0 }
    return checked ? await checked.measure(counts, current) : counts
  })
}

async function write(
  connection: Connection,
  ctx: StepContext,
  { name, mode }: Model,
  statement: Statement,
  select: Select,
): Promise<Partial<RowCounts>> {
  if (mode === 'view') return await writeView(connection, name, statement)
  const inserted =
    mode === 'append' ? await append(connection, name, statement, select) : await replace(connection, name, select)
  capRows(name, inserted, ctx.limits)
  return { inserted }
}

async function append(connection: Connection, name: string, { columns }: Statement, select: Select): Promise<number> {
  await preparePlain(connection, name, 'append', columns)
  return await connection.run(`INSERT INTO ${plainOf(name)} BY NAME ${select.text}`, select.values)
}

// One statement, for the query may read the table that it replaces.
async function replace(connection: Connection, name: string, select: Select): Promise<number> {
  await findPlain(connection, name)
  await connection.run(`CREATE OR REPLACE TABLE ${plainOf(name)} AS ${select.text}`, select.values)
  await register(connection, name, 'plain', [])
  const [counted] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM ${plainOf(name)}`)
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

async function stage(connection: Connection, statement: Statement): Promise<{ staging: Staging; rows: number }> {
  await openRejected(connection)
  const { text, values } = selectOf(statement)
  await connection.run(`CREATE OR REPLACE TEMP TABLE transformed AS ${text}`, values).catch((error: unknown) => {
    throw sqlError(error)
  })
  const [counted] = await connection.rows(`SELECT count(*)::BIGINT AS n FROM temp.transformed`)
  const staging = {
    columns: statement.columns,
    untyped: [],
    relation: `(SELECT s.*, s.rowid AS __row FROM temp.transformed s ANTI JOIN rejected r ON s.rowid = r.__row)`,
    keep: '__row DESC',
    keysOfRejected: keysFrom('(SELECT *, rowid AS __row FROM temp.transformed)'),
    files: [],
    locate: async () => {},
  }
  return { staging, rows: Number(counted?.['n']) }
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
     FROM (SELECT ${keys.join(', ')}, count(*) AS n FROM ${staging.relation} GROUP BY ALL)`,
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
    `DELETE FROM ${plainOf(name)} AS t WHERE EXISTS (SELECT 1 FROM ${staging.relation} s WHERE ${same})`,
  )
  await connection.run(`INSERT INTO ${plainOf(name)} BY NAME ${rowsOf(staging)}`)
  return { inserted: total - updated, updated }
}

const listOf = (columns: readonly Column[]): string => columns.map(({ name }) => quoted(name)).join(', ')

const selectOf = ({ columns, text, values }: Statement): Select => ({
  text: `SELECT ${listOf(columns)} FROM (\n${text}\n)`,
  values,
})

const rowsOf = ({ columns, relation }: Staging): string => `SELECT ${listOf(columns)} FROM ${relation}`
