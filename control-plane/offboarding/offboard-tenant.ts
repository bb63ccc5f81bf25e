import { and, eq, isNull, ne, notInArray, sql } from 'drizzle-orm'
import { z } from 'zod'
import { tenantConfiguration } from '../../schema/config/tenant.ts'
import {
  apiKey,
  idempotentRequest,
  outbox,
  pipelineRun,
  runStep,
  tenant,
  tenantEnvironment,
  tenantQueue,
  tenantUser,
  userRole,
} from '../../schema/tables/index.ts'
import { eraseSubjects } from '../../shared/audit-personal.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { cancelRun, retryRun } from '../../shared/runs/ledger.ts'
import { type NewRun, startInTransaction } from '../../shared/runs/start-in-transaction.ts'
import { endAccess } from '../auth/end-access.ts'
import { forgetKeys } from '../auth/forget-keys.ts'
import { authOf, type Context } from '../context.ts'
import { type Refusal, refusalOf } from '../graphql/user-errors.ts'
import { hasEnded, outcomeError, readOutcome, waitForRun } from '../runs/wait-for-run.ts'
import { steerQueues } from '../../shared/runs/steer-queues.ts'
import { wakeQueues } from '../runs/wake-queues.ts'
import { inLockedTenant, moveTo, type TenantRow } from '../tenants/suspend-tenant.ts'

/** Steps of offboarding, in order; `tenant.dismantled` holds those that are done. */
export const offboardingSteps = ['keys', 'runs', 'data', 'secrets', 'people', 'offboarded'] as const
type Step = (typeof offboardingSteps)[number] | 'export'

/** The tenant as it stands after a call, what it was given along, and why it is not gone yet. */
export type Offboarded = { tenant: TenantRow; exported?: Exported; errors: Refusal[] }

/** Tables, rows and bytes of the export, and whether it stands on the tenant's own server. */
export type Exported = { tables: number; rows: number; bytes: number; isDelivered: boolean }

/**
 * Takes a tenant down for good: suspends it and revokes its keys, cancels its runs and waits for them, has a worker remove
 * lake and folders, destroys its data keys, which makes its credentials and all that is personal in its
 * audit log unreadable, erases people, addresses and mail, and marks it offboarded. Name, runs and audit log stay; the id is
 * never used again. With `export` a worker first writes all tables as Parquet, and delivers them when the tenant has an
 * SFTP server; they are kept for 30 days beside where the data were. Each step is done once, with its audit row: a repeat after a crash or
 * after UNAVAILABLE (no worker in time) goes on there, and on an offboarded tenant changes nothing. Throws NOT_FOUND,
 * BAD_INPUT.
 */
export async function offboardTenant(context: Context, tenantId: string, isExported = false): Promise<Offboarded> {
  let exported: Exported | undefined
  await once(context, tenantId, 'keys', async (tx, row) => {
    if (row.status !== 'suspended') await moveTo(context, tx, row, 'suspended')
    await revokeKeys(context, tx, tenantId)
  })
  try {
    if (!(await isDone(context, tenantId, 'runs'))) await endRuns(context, tenantId)
    await once(context, tenantId, 'runs', openQueues)
    context.later(() => steerQueues(context.ports, tenantId, 'api'))
    const { dismantled } = await rowOf(context, tenantId)
    if (isExported && (dismantled.includes('export') || !dismantled.includes('data'))) {
      exported = await exportTables(context, tenantId)
      await once(context, tenantId, 'export', async () => undefined)
    }
    if (!dismantled.includes('data')) await removeData(context, tenantId)
    await once(context, tenantId, 'data', async () => undefined)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return { tenant: await rowOf(context, tenantId), errors: [refusalOf(error)] }
  }
  await once(context, tenantId, 'secrets', (tx) => destroySecrets(context, tx, tenantId))
  await once(context, tenantId, 'people', (tx) => eraseMore(context, tx, tenantId))
  await once(context, tenantId, 'offboarded', async (tx, row) => void (await moveTo(context, tx, row, 'offboarded')))
  return { tenant: await rowOf(context, tenantId), ...(exported ? { exported } : {}), errors: [] }
}

function once(
  context: Context,
  tenantId: string,
  step: Step,
  work: (tx: Tx, row: TenantRow) => Promise<void>,
): Promise<void> {
  return inLockedTenant(context, tenantId, async (tx, row) => {
    if (row.dismantled.includes(step)) return
    await work(tx, row)
    await tx
      .update(tenant)
      .set({ dismantled: sql`array_append(${tenant.dismantled}, ${step})` })
      .where(eq(tenant.id, tenantId))
    await note(context, tx, tenantId, 'tenant.dismantled', { step })
  })
}

async function revokeKeys(context: Context, tx: Tx, tenantId: string): Promise<void> {
  const revoked = await tx
    .update(apiKey)
    .set({ revokedAt: context.ports.clock.now() })
    .where(and(eq(apiKey.tenantId, tenantId), isNull(apiKey.revokedAt)))
    .returning({ id: apiKey.id })
  for (const { id } of revoked) await note(context, tx, tenantId, 'api_key.revoked', {}, id)
  await forgetKeys(
    context,
    tx,
    tenantId,
    revoked.map(({ id }) => id),
  )
  await endAccess(context, tx, { tenantId }, 'offboarded')
}

// Cancelled runs end when their workers have heard it. None starts any more, so what is cancelled here is all there is.
async function endRuns(context: Context, tenantId: string): Promise<void> {
  const { actor } = authOf(context)
  const runs = await inTenantOf(context, tenantId, async (tx) => {
    const unfinished = await tx
      .select({ runId: pipelineRun.runId })
      .from(pipelineRun)
      .where(
        and(
          eq(pipelineRun.tenantId, tenantId),
          notInArray(pipelineRun.state, ['succeeded', 'failed', 'cancelled', 'timed_out']),
        ),
      )
    for (const { runId } of unfinished)
      await cancelRun(tx, { runId, reason: 'offboarding', actor, requestId: context.requestId })
    return unfinished
  })
  for (const { runId } of runs) wakeQueues(context, runId, tenantId)
  const until = context.ports.clock.now().getTime() + context.waits.provisionMs
  for (const { runId } of runs) {
    const left = Math.max(0, until - context.ports.clock.now().getTime())
    const outcome = await waitForRun(context, { tenantId, runId }, left)
    if (!hasEnded(outcome.state)) throw outcomeError(outcome, 'Cancelling the runs of this tenant')
  }
}

// A queue that was stopped would keep the last run waiting for ever. Nothing else is left in it.
async function openQueues(tx: Tx, row: TenantRow): Promise<void> {
  await tx
    .update(tenantQueue)
    .set({ desired: 'running', generation: sql`${tenantQueue.generation} + 1` })
    .where(and(eq(tenantQueue.tenantId, row.id), notInArray(tenantQueue.desired, ['running'])))
}

async function removeData(context: Context, tenantId: string): Promise<void> {
  await finishRun(context, tenantId, 'Removing the data of this tenant', {
    path: 'system/tenant/dismantle',
    idempotencyKey: 'offboard',
    parameters: {},
  })
}

const exportResult = z.object({ tables: z.number(), rows: z.number(), bytes: z.number() })

async function exportTables(context: Context, tenantId: string): Promise<Exported | undefined> {
  const { sftp } = (await rowOf(context, tenantId)).configuration
  const runId = await finishRun(context, tenantId, 'Exporting the tables of this tenant', {
    path: sftp.credential === undefined ? 'system/tenant/export' : 'system/tenant/export_sftp',
    idempotencyKey: 'offboard-export',
    parameters: sftp.credential === undefined ? {} : { remote_directory: sftp.remoteDirectory },
    ...(sftp.credential === undefined ? {} : { credential: sftp.credential }),
  })
  if (runId === undefined) return undefined
  const steps = await inTenantOf(context, tenantId, (tx) =>
    tx
      .select({ key: runStep.stepKey, result: runStep.result })
      .from(runStep)
      .where(and(eq(runStep.tenantId, tenantId), eq(runStep.runId, runId))),
  )
  const result = exportResult.parse(steps.find(({ key }) => key === 'export')?.result)
  return { ...result, isDelivered: steps.some(({ key }) => key === 'deliver') }
}

type OwnRun = Pick<NewRun, 'path' | 'parameters' | 'credential'> & { idempotencyKey: string }

// Starts a run of the platform's own once, retries it when an earlier call saw it fail, and waits for its success.
async function finishRun(context: Context, tenantId: string, what: string, run: OwnRun): Promise<string | undefined> {
  const runId = await inLockedTenant(context, tenantId, (tx) => startOrRetry(context, tx, tenantId, run))
  if (runId === undefined) return undefined
  wakeQueues(context, runId, tenantId)
  const outcome = await waitForRun(context, { tenantId, runId }, context.waits.provisionMs)
  if (outcome.state !== 'succeeded') throw outcomeError(outcome, what)
  return runId
}

// Undefined for a tenant whose onboarding stopped before a worker could make anything.
async function startOrRetry(context: Context, tx: Tx, tenantId: string, run: OwnRun): Promise<string | undefined> {
  const [queue] = await tx.select().from(tenantQueue).where(eq(tenantQueue.tenantId, tenantId)).limit(1)
  if (!queue) return undefined
  const { actor } = authOf(context)
  const { requestId } = context
  const started = await startInTransaction(tx, {
    tenantId,
    actor,
    requestId,
    ...run,
    trigger: 'offboard',
    inputHash: null,
  })
  if (!('runId' in started)) throw new Error('the template of offboarding does not start')
  const { runId } = started
  const { state } = await readOutcome(tx, { tenantId, runId })
  if (hasEnded(state) && state !== 'succeeded') await retryRun(tx, { runId, from: null, actor, requestId })
  return runId
}

async function destroySecrets(context: Context, tx: Tx, tenantId: string): Promise<void> {
  const keys = await context.ports.secrets.destroyTenantKeys(tx, tenantId, 'all')
  const subjects = await eraseSubjects(tx, tenantId)
  await note(context, tx, tenantId, 'tenant_key.destroyed', { keys, which: 'all', subjects })
}

// What is personal outside the sealed parts: people, addresses of warnings, and mail, sent or not. Ids stay, for what the
// audit log says of them, and so does the name of the company.
async function eraseMore(context: Context, tx: Tx, tenantId: string): Promise<void> {
  const erased = { email: '', username: '', firstName: '', lastName: '', status: 'deleted' } as const
  const people = await tx
    .update(tenantUser)
    .set(erased)
    .where(and(eq(tenantUser.tenantId, tenantId), ne(tenantUser.status, 'deleted')))
    .returning({ id: tenantUser.id })
  await tx.delete(userRole).where(eq(userRole.tenantId, tenantId))
  await tx.delete(tenantEnvironment).where(eq(tenantEnvironment.tenantId, tenantId))
  await tx.delete(idempotentRequest).where(eq(idempotentRequest.tenantId, tenantId))
  const mail = await tx.delete(outbox).where(eq(outbox.tenantId, tenantId)).returning({ id: outbox.id })
  await tx
    .update(tenant)
    .set({ adminEmail: '', configuration: tenantConfiguration.parse({}) })
    .where(eq(tenant.id, tenantId))
  await note(context, tx, tenantId, 'tenant.erased', { people: people.length, mail: mail.length })
}

const isDone = async (context: Context, tenantId: string, step: Step): Promise<boolean> =>
  (await rowOf(context, tenantId)).dismantled.includes(step)

async function rowOf(context: Context, tenantId: string): Promise<TenantRow> {
  const [row] = await inTenantOf(context, tenantId, (tx) => tx.select().from(tenant).where(eq(tenant.id, tenantId)))
  if (!row) throw new Error('a tenant that exists is not there')
  return row
}

const inTenantOf = <T>(context: Context, tenantId: string, work: (tx: Tx) => Promise<T>): Promise<T> =>
  withTenant(context.ports.db, { tenantId, side: 'api' }, work)

function note(
  context: Context,
  tx: Tx,
  tenantId: string,
  action: string,
  details: Record<string, unknown>,
  target = tenantId,
): Promise<void> {
  const { requestId } = context
  return audit(tx, { tenantId, actor: authOf(context).actor, action, target, requestId, details })
}
