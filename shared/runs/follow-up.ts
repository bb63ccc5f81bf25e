import { and, eq, sql } from 'drizzle-orm'
import type { PipelineTrigger } from '../../schema/config/triggers.ts'
import type { Value, Values } from '../../schema/config/variables.ts'
import { pipeline, pipelineRun, pipelineTrigger, runFollowUp, runStep } from '../../schema/tables/index.ts'
import { resolveSettings } from '../config/variables.ts'
import type { Tx } from '../db/db.ts'
import { AppError } from '../errors.ts'
import { type Tried, tryStart } from './try-start.ts'

const attemptsMax = 100

/**
 * Starts the run that follows an ended one by a trigger, once, in the transaction of its tenant. A refusal that may pass
 * (a full queue, a busy group) is tried again, at first after 10 s and then more and more rarely; any other is kept with
 * its reason. Answers the runs that it started; none when somebody else works on it at this moment.
 */
export async function followUp(tx: Tx, tenantId: string, runId: string, triggerId: string): Promise<string[]> {
  const key = and(
    eq(runFollowUp.tenantId, tenantId),
    eq(runFollowUp.runId, runId),
    eq(runFollowUp.triggerId, triggerId),
  )
  const [row] = await tx
    .select()
    .from(runFollowUp)
    .where(and(key, eq(runFollowUp.state, 'pending')))
    .for('update', { skipLocked: true })
  if (!row) return []
  const started = await start(tx, tenantId, runId, triggerId)
  if ('runId' in started) {
    await tx.update(runFollowUp).set({ state: 'started', followerRun: started.runId, problem: null }).where(key)
    return [started.runId]
  }
  const isOver = started.retry === 'never' || row.attempts + 1 >= attemptsMax
  await tx
    .update(runFollowUp)
    .set({
      state: isOver ? 'refused' : 'pending',
      problem: started.problem,
      attempts: row.attempts + 1,
      notBefore: sql`now() + ${Math.min(1800, 10 * 2 ** row.attempts)} * interval '1 second'`,
    })
    .where(key)
  return []
}

async function start(tx: Tx, tenantId: string, runId: string, triggerId: string): Promise<Tried> {
  const [found] = await tx
    .select({ run: pipelineRun, path: pipeline.path, trigger: pipelineTrigger })
    .from(pipelineRun)
    .innerJoin(pipeline, and(eq(pipeline.tenantId, pipelineRun.tenantId), eq(pipeline.id, pipelineRun.pipelineId)))
    .innerJoin(pipelineTrigger, and(eq(pipelineTrigger.tenantId, tenantId), eq(pipelineTrigger.id, triggerId)))
    .where(and(eq(pipelineRun.tenantId, tenantId), eq(pipelineRun.runId, runId)))
  if (!found || found.trigger.settings.on !== 'pipeline') throw new Error('a follow-up names a run that is not there')
  const { run, path, trigger } = found
  if (!trigger.enabled)
    return { problem: { code: 'CONFLICT', message: 'The pipeline follows no more.' }, retry: 'never' }
  const upstream = await upstreamValues(tx, run, path)
  try {
    return await tryStart(tx, {
      tenantId,
      path: trigger.pipeline,
      actor: `run:${runId}`,
      requestId: null,
      trigger: 'pipeline',
      parameters: parametersFrom(found.trigger.settings, upstream),
      idempotencyKey: `after:${runId}:${trigger.pipeline}`,
      inputHash: null,
      environment: run.environment,
    })
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { problem: { code: error.code, message: error.message, hint: error.hint }, retry: 'never' }
  }
}

// The day of the run before is the day of this one: a chain that starts at midnight works on one day throughout.
function parametersFrom(settings: PipelineTrigger, upstream: Values): Record<string, unknown> {
  return { date: upstream['date'], ...resolveSettings(settings.parameters, [], { upstream: { ...upstream } }) }
}

async function upstreamValues(tx: Tx, run: typeof pipelineRun.$inferSelect, path: string): Promise<Values> {
  const steps = await tx
    .select({ key: runStep.stepKey, result: runStep.result })
    .from(runStep)
    .where(and(eq(runStep.tenantId, run.tenantId), eq(runStep.runId, run.runId), eq(runStep.state, 'succeeded')))
  return {
    run_id: run.runId,
    pipeline: path,
    date:
      typeof run.parameters['date'] === 'string' ? run.parameters['date'] : run.createdAt.toISOString().slice(0, 10),
    // Parameters were checked when the run started, and what a step left is JSON as its processor's result was.
    parameters: run.parameters as Record<string, Value>,
    steps: Object.fromEntries(steps.map(({ key, result }) => [key, (result ?? {}) as Record<string, Value>])),
  }
}
