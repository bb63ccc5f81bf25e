import { sql } from 'drizzle-orm'
import type { QueueType, RunState } from '../../schema/states.ts'
import { mustBeAskedAnew } from '../db/away.ts'
import { callOnce, type Db, rowsOf, textArray, type Tx } from '../db/db.ts'
import type { ErrorData } from '../errors.ts'
import type { PlannedStep } from './plan.ts'

/** A run to start; `steps` come from `planRun`. */
export type NewRun = {
  runId: string
  pipelineId: string
  pipelineVersion: number
  trigger: string
  idempotencyKey: string | null
  inputHash: string | null
  parameters: Record<string, unknown>
  timeoutMs: number | null
  requestedBy: string
  requestId: string | null
  /** Runs of a higher one are served before others of the same tenant. Default 0. */
  priority?: number
  /** How many runs of one group go at once, and what a run too many does. */
  concurrency?: Concurrency | null
  steps: PlannedStep[]
  /** The environment of the tenant whose values it took. */
  environment?: string | null
}
/** A group of runs, `limit` of which go at once. */
export type Concurrency = { group: string; limit: number; onConflict: 'queue' | 'skip' | 'cancel_running' }
/**
 * The ledger's answer: the run, or why not. `created` is false for a repeat of the idempotency key; GROUP_BUSY names a
 * run that is in the way.
 */
export type Started =
  | { runId: string; created: boolean; conflict: boolean }
  | { refused: 'TENANT_NOT_ACTIVE' }
  | ({ refused: 'QUOTA_EXCEEDED' } & UsedUp)
  | { refused: 'GROUP_BUSY'; runId: string }

/** A quota that is used up; `resetsAt` is an ISO moment, or null for what has to be given up first. */
export type UsedUp = { quota: string; limit: number; used: number; resetsAt: string | null }

/** Starts a run of the transaction's tenant: run, steps, first events and audit row in one call. */
export async function startRun(tx: Tx, run: NewRun): Promise<Started> {
  return single<Started>(tx, sql`select app.start_run(${JSON.stringify(run)}::jsonb) as value`)
}

/** Asks a run of the transaction's tenant to stop. Answers its state, null when there is none. */
export function cancelRun(
  tx: Tx,
  input: { runId: string; reason: string; actor: string; requestId: string | null },
): Promise<RunState | null> {
  return single(
    tx,
    sql`select app.cancel_run(${input.runId}, ${input.reason}, ${input.actor}, ${input.requestId}) as value`,
  )
}

/** The quota that keeps a run of the transaction's tenant from going on, or null; no run starts meanwhile. */
export function refusedRetry(tx: Tx, runId: string): Promise<UsedUp | null> {
  return single(tx, sql`select app.refused_retry(${runId}) as value`)
}

/** Runs again what did not succeed, or everything from step `from` on. */
export function retryRun(
  tx: Tx,
  input: { runId: string; from: string | null; actor: string; requestId: string | null },
): Promise<
  | { state: RunState }
  | { refused: 'NOT_FOUND' }
  | { refused: 'CONFLICT'; state: RunState }
  | { refused: 'GROUP_BUSY'; runId: string }
> {
  return single(
    tx,
    sql`select app.retry_run(${input.runId}, ${input.from}, ${input.actor}, ${input.requestId}) as value`,
  )
}

/** Takes a failed step of an ended run off the list of dead letters; false when there is none such. */
export function discardStep(
  tx: Tx,
  input: { runId: string; stepKey: string; reason: string; actor: string; requestId: string | null },
): Promise<boolean> {
  return single(
    tx,
    sql`select app.discard_step(${input.runId}, ${input.stepKey}, ${input.reason}, ${input.actor}, ${input.requestId}) as value`,
  )
}

/** A step in the hands of a worker. The fence goes with every word about it. */
export type Claim = { tenantId: string; runId: string; stepKey: string; fence: bigint; attempt: number }

/**
 * What a worker may claim: of its queues, with a list of no other tenants, and with a folder of none whose lake is in
 * another one or open in another worker. Whose step it claims is its own then, until it keeps it no more.
 */
export type Wanted = {
  worker: string
  queues: readonly QueueType[]
  leaseMs: number
  tenants: readonly string[] | null
  folder?: string | undefined
}

/** Takes up to `limit` ready steps, in fair turns over the tenants. */
export async function claimSteps(db: Db, input: Wanted & { limit: number }): Promise<Claim[]> {
  // Turns that change hands while they are looked at are looked at anew: nothing was taken.
  for (let looks = 1; looks < 10; looks++)
    try {
      return await claimOnce(db, input)
    } catch (error) {
      if (!mustBeAskedAnew(error)) throw error
    }
  return claimOnce(db, input)
}

async function claimOnce(
  db: Db,
  { worker, queues, limit, leaseMs, tenants, folder }: Wanted & { limit: number },
): Promise<Claim[]> {
  const rows = await callOnce<ClaimRow>(
    db,
    ofWorkers,
    sql`select * from app.claim_steps(${worker}, ${textArray(queues)}, ${limit}, ${leaseMs}, ${textArray(tenants)}, ${folder ?? null})`,
  )
  return rows.map(claimOf)
}

type ClaimRow = {
  o_tenant: string
  o_run: string
  o_step: string
  o_fence: string | number | bigint
  o_attempt: number
}

const claimOf = (row: ClaimRow): Claim => ({
  tenantId: row.o_tenant,
  runId: row.o_run,
  stepKey: row.o_step,
  fence: BigInt(row.o_fence),
  attempt: row.o_attempt,
})

/** What a worker must do with a step that it holds; `stale` means that it holds it no more. */
export type Order = 'ok' | 'cancel' | 'release' | 'timeout' | 'stale'

/** Extends the lease and brings back the order. */
export async function heartbeat(db: Db, claim: Claim, leaseMs: number): Promise<Order> {
  return (await onStep<Order | null>(db, claim, (c) => sql`select app.heartbeat(${c}, ${leaseMs}) as value`)) ?? 'stale'
}

/** Progress and log lines; false when the fence is stale. */
export function reportStep(
  db: Db,
  claim: Claim,
  report: { progress: object | null; logs: { level: string; message: string }[] },
): Promise<boolean> {
  const progress = report.progress === null ? null : JSON.stringify(report.progress)
  return onStep(
    db,
    claim,
    (c) => sql`select app.report_step(${c}, ${progress}::jsonb, ${JSON.stringify(report.logs)}::jsonb) as value`,
  )
}

/** A message for the outbox, written with the completion of its step. */
export type OutboxMessage = { id: string; kind: 'email'; payload: Record<string, unknown> }

/** Success, with everything that follows; false when the fence is stale. */
export function completeStep(
  db: Db,
  claim: Claim,
  result: Record<string, unknown>,
  messages: OutboxMessage[],
): Promise<boolean> {
  return onStep(
    db,
    claim,
    (c) =>
      sql`select app.complete_step(${c}, ${JSON.stringify(result)}::jsonb, ${JSON.stringify(messages)}::jsonb) as value`,
  )
}

/** How the end of a step was taken: not, when the fence was stale; and what was claimed with it. */
export type Ended = { isDone: boolean; next: Claim | undefined }

/**
 * Success as by `completeStep`, and in the same transaction the next step for the slot that is free by it: one wait for the
 * disk and not two. `next` is undefined when the fence was stale, or when nothing could be had without waiting for others:
 * then `claimSteps` may still find something.
 */
export async function completeAndClaim(
  db: Db,
  claim: Claim,
  result: Record<string, unknown>,
  messages: OutboxMessage[],
  { worker, queues, leaseMs, tenants, folder }: Wanted,
): Promise<Ended> {
  const [row] = await callOnce<{ o_done: boolean } & (ClaimRow | { o_tenant: null })>(
    db,
    { tenantId: claim.tenantId, side: 'worker' },
    sql`select * from app.complete_and_claim(${claim.tenantId}, ${claim.runId}, ${claim.stepKey}, ${claim.fence.toString()}::bigint,
      ${JSON.stringify(result)}::jsonb, ${JSON.stringify(messages)}::jsonb, ${worker}, ${textArray(queues)}, ${leaseMs}, ${textArray(tenants)}, ${folder ?? null})`,
  )
  if (!row) throw new Error('a ledger function answered no row')
  return { isDone: row.o_done, next: row.o_tenant === null ? undefined : claimOf(row) }
}

/**
 * The step becomes one child per item, each a step of its own; what waited for it waits for all of them. False when the
 * fence is stale. A run holds at most 5,000 steps, which is the caller's to keep to.
 */
export function expandStep(db: Db, claim: Claim, items: readonly unknown[]): Promise<boolean> {
  return onStep(db, claim, (c) => sql`select app.expand_step(${c}, ${JSON.stringify(items)}::jsonb) as value`)
}

/**
 * The step starts a run of its tenant and waits for its end, without a slot and without a lease. `run` comes from the
 * transaction that keeps its pipeline, which is bound to the step's tenant on the worker's side.
 */
export function startChild(
  tx: Tx,
  claim: Claim,
  run: NewRun,
): Promise<Started | { refused: 'STALE' | 'CANCELLED' | 'TOO_DEEP' }> {
  return single(
    tx,
    sql`select app.start_child(${claim.tenantId}, ${claim.runId}, ${claim.stepKey}, ${claim.fence.toString()}::bigint, ${JSON.stringify(run)}::jsonb) as value`,
  )
}

/** Failure: `retry` when it will run again, `dead` when it stays failed, `stale` when it was not ours to fail. */
export function failStep(db: Db, claim: Claim, error: ErrorData): Promise<'retry' | 'dead' | 'stale'> {
  return onStep(
    db,
    claim,
    (c) => sql`select app.fail_step(${c}, ${JSON.stringify(error)}::jsonb, ${error.retry === 'later'}) as value`,
  )
}

/** The step obeyed a cancel; false when nothing asked for one. */
export function cancelStep(db: Db, claim: Claim): Promise<boolean> {
  return onStep(db, claim, (c) => sql`select app.cancel_step(${c}) as value`)
}

/** The step goes back unfinished and its attempt does not count. */
export function releaseStep(
  db: Db,
  claim: Claim,
  reason: string,
): Promise<'released' | 'cancelled' | 'dead' | 'retry' | 'stale'> {
  return onStep(db, claim, (c) => sql`select app.release_step(${c}, ${reason}) as value`)
}

/** Gives back at once what another owner held. Only for a process that owns every lease. */
export function adopt(db: Db, worker: string): Promise<number> {
  return onlyValue(callOnce(db, ofWorkers, sql`select app.adopt(${worker}) as value`))
}

/** Housekeeping: lost leases, deadlines, missed wake-ups. Answers where something can be claimed. */
export async function tick(db: Db, limit = 100): Promise<{ tenantId: string; queue: QueueType }[]> {
  const rows = await callOnce<{ o_tenant: string; o_queue: QueueType }>(
    db,
    ofWorkers,
    sql`select * from app.tick(${limit})`,
  )
  return rows.map((row) => ({ tenantId: row.o_tenant, queue: row.o_queue }))
}

/** A due message in the hands of one sender. */
export type DueMessage = { tenantId: string; id: string; kind: string; payload: unknown; attempts: number }

/** Takes up to `limit` due messages for `leaseMs`. */
export async function claimOutbox(db: Db, limit: number, leaseMs: number): Promise<DueMessage[]> {
  const rows = await callOnce<{ tenant_id: string; id: string; kind: string; payload: unknown; attempts: number }>(
    db,
    ofWorkers,
    sql`select * from app.claim_outbox(${limit}, ${leaseMs})`,
  )
  return rows.map(({ tenant_id, ...row }) => ({ tenantId: tenant_id, ...row }))
}

/** A message was sent (`error` null), or is to be tried again after `retryMs`. */
export async function finishOutbox(
  db: Db,
  message: DueMessage,
  error: ErrorData | null,
  retryMs: number,
): Promise<void> {
  const data = error === null ? null : JSON.stringify(error)
  await callOnce(
    db,
    ofWorkers,
    sql`select app.finish_outbox(${message.tenantId}, ${message.id}, ${data}::jsonb, ${retryMs})`,
  )
}

/** Says how many bytes lake and files of a tenant take. */
export async function noteStorage(db: Db, tenantId: string, bytes: number): Promise<void> {
  await callOnce(db, { tenantId, side: 'worker' }, sql`select app.note_storage(${tenantId}, ${bytes}::bigint)`)
}

// Bound to no tenant: tenant tables look empty, only the ledger's functions can be called.
const ofWorkers = { tenantId: '', side: 'worker' } as const

// A claim's words run bound to its tenant, although the functions would find the row by their arguments alone.
function onStep<T>(
  db: Db,
  claim: Claim,
  statement: (args: ReturnType<typeof sql>) => ReturnType<typeof sql>,
): Promise<T> {
  const args = sql`${claim.tenantId}, ${claim.runId}, ${claim.stepKey}, ${claim.fence.toString()}::bigint`
  return onlyValue(callOnce<{ value: T }>(db, { tenantId: claim.tenantId, side: 'worker' }, statement(args)))
}

const single = <T>(tx: Tx, statement: ReturnType<typeof sql>): Promise<T> =>
  onlyValue(rowsOf<{ value: T }>(tx, statement))

async function onlyValue<T>(rows: Promise<{ value: T }[]>): Promise<T> {
  const [row] = await rows
  if (!row) throw new Error('a ledger function answered no row')
  return row.value
}
