import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { viewFault } from '../../../shared/quality/rule-fault.ts'
import { defineProcessor, type OutputValue, type StepContext, type StepResult } from '../../define.ts'
import type { Connection } from '../../lake/connection.ts'
import { attemptOf, loadOutputs } from '../../lake/destination.ts'
import { tableName } from '../../lake/names.ts'
import { type Attempt, findReceipt, type LoadCounts, type LoadSummary } from '../../lake/receipt.ts'
import { bindStatement, type Inspected, inspectStatement } from '../../lake/statement.ts'
import { catalogOf, keepLineage } from '../../transforms/keep-lineage.ts'
import { loadModel } from '../../transforms/load-model.ts'
import { into, type Model, model, query, tests } from '../../transforms/model.ts'
import { orderModels } from '../../transforms/order-models.ts'

const settings = z.strictObject({
  query: query.optional(),
  destination: z
    .strictObject({ table: tableName.describe('The table that takes the result.'), ...into })
    .optional()
    .describe('Where the result of query goes.'),
  ...tests,
  models: z
    .array(model)
    .min(1)
    .max(50)
    .optional()
    .describe('Several queries instead of one. They run in the order in which they read each other.'),
})

/** Puts the results of SELECTs over the tenant's tables into tables and views. */
export default defineProcessor({
  type: 'sql.transform',
  title: 'Transform with SQL',
  description: 'Runs SELECTs over the tables of the tenant, tests their results, and keeps them as tables or views.',
  queue: 'transform',
  settings,
  credentialProviders: [],
  async run(ctx, given): Promise<StepResult> {
    using connection = await ctx.lake.connectForTenant(ctx.signal)
    const single = singleOf(given)
    const attempt = attemptOf(ctx)
    if (single) {
      refuseQuarantine(single, 'rules')
      return { outputs: await build(connection, ctx, attempt, { model: single, sql: ctx.bindSql(single.query) }) }
    }
    // All of them are looked through before the first one writes.
    const inspected = []
    for (const [index, one] of (given.models ?? []).entries()) {
      const place = `models[${index}].query`
      refuseQuarantine(one, `models[${index}].rules`)
      const sql = ctx.bindSql(one.query)
      const { seen } = await placed(one, place, () => inspectStatement(connection, sql))
      inspected.push({ name: one.name, model: one, sql, seen, place })
    }
    const outputs: Record<string, OutputValue>[] = []
    let rows = 0
    for (const one of orderModels(inspected)) {
      const own = { ...attempt, stepKey: `${attempt.stepKey}/${one.name}` }
      const done = await placed(one, one.place, () => build(connection, ctx, own, one))
      outputs.push(done)
      rows += Number(done['rows'])
      ctx.progress({ done: rows, total: null, unit: 'rows', note: one.name })
    }
    return { outputs: { models: outputs, rows } }
  },
})

function singleOf(given: z.output<typeof settings>): Model | undefined {
  const { query: text, destination, models, rules, fail_below } = given
  if (models && text === undefined && !destination && rules.length === 0) return undefined
  if (models || text === undefined || !destination)
    throw new AppError('CONFIG_INVALID', 'Give query with destination, or models; rules stand beside each query.')
  const { table: name, ...how } = destination
  return { name, query: text, ...how, rules, fail_below }
}

function refuseQuarantine({ mode, rules }: Model, place: string): void {
  if (mode !== 'view') return
  for (const [index, rule] of rules.entries()) {
    const fault = viewFault(rule)
    if (fault)
      throw new AppError('CONFIG_INVALID', `The rule ${rule.rule}: ${fault.message}.`, {
        place: { path: `${place}[${index}].${fault.key}` },
      })
  }
}

// Of several queries the message says which one.
async function placed<T>({ name }: { name: string }, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    const { code, message, hint, retry, context, figures } = error
    throw new AppError(code, `${name}: ${message}`, { place: { path }, hint, retry, context, figures, cause: error })
  }
}

async function build(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  { model: wanted, sql }: { model: Model; sql: Parameters<typeof inspectStatement>[1] },
): Promise<Record<string, OutputValue>> {
  const done = await findReceipt(connection, attempt)
  const counts = done ?? (await load(connection, ctx, attempt, wanted, await inspectStatement(connection, sql)))
  return { ...outputsOf(wanted, counts), ...(counts.quality ? testOutputs(counts.quality, counts.rejected) : {}) }
}

async function load(
  connection: Connection,
  ctx: StepContext,
  attempt: Attempt,
  wanted: Model,
  inspected: Inspected,
): Promise<LoadCounts> {
  const statement = await bindStatement(connection, inspected)
  // Before the load, so that what a table was made from is known even when the process dies right after it; the columns
  // are those that the query sees.
  await keepLineage(connection, attempt, wanted.name, statement, await catalogOf(connection))
  return await loadModel(connection, ctx, attempt, wanted, statement)
}

function outputsOf({ name, mode, partition_by }: Model, counts: LoadCounts): Record<string, OutputValue> {
  if (mode === 'versioned' || partition_by.length > 0) return loadOutputs(name, counts)
  if (mode === 'merge')
    return { table: name, rows: counts.inserted + counts.updated, inserted: counts.inserted, updated: counts.updated }
  return { table: name, rows: counts.inserted }
}

function testOutputs(quality: LoadSummary, rejected: number): Record<string, OutputValue> {
  const results = Array.isArray(quality['rules']) ? quality['rules'] : []
  const failed = results.reduce<number>((sum, result) => {
    const { passed, failed } = Object(result) as { passed?: unknown; failed?: unknown } // as resultOutput writes them
    return sum + (passed === true ? 0 : Number(failed))
  }, 0)
  return { score: quality['overall'] ?? null, failed, rejected, quality }
}
