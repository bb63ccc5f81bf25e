import { and, eq } from 'drizzle-orm'
import { pipelineRun, tenant } from '../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError, type ErrorCode, errorCodes } from '../../shared/errors.ts'
import { retryRun } from '../../shared/runs/ledger.ts'
import { authOf, type Context } from '../context.ts'
import { startInTransaction } from '../runs/start-run.ts'
import { wakeQueues } from '../runs/wake-queues.ts'
import type { OnboardRequest } from './input.ts'
import { putSftp } from './put-sftp.ts'
import { once } from './step.ts'

const templates = { plain: 'system/tenant/provision', sftp: 'system/tenant/provision_sftp' } as const
const lookAgainMs = 1000

/**
 * The steps that need a worker, `lake` and `folders`: one run of the platform's template, started once, retried when an
 * earlier call saw it fail (with the SFTP server of this call), and waited for. Throws UNAVAILABLE when it has not ended
 * in time, and with the code of the run when it failed; both can be repeated.
 */
export async function provisionByWorker(context: Context, request: OnboardRequest): Promise<void> {
  const tenantId = request.profile.id
  const runId = await inNewTenant(context, tenantId, (tx) => startOrRetry(context, tx, request))
  if (runId === undefined) return
  wakeQueues(context, runId, tenantId)
  await waitFor(context, tenantId, runId)
  await once(context, tenantId, 'lake', async () => undefined)
  await once(context, tenantId, 'folders', async () => undefined)
}

// Undefined when both steps are done.
async function startOrRetry(context: Context, tx: Tx, request: OnboardRequest): Promise<string | undefined> {
  const { profile, sftp } = request
  const [row] = await tx.select().from(tenant).where(eq(tenant.id, profile.id)).for('update')
  if (row?.provisioned.includes('folders')) return undefined
  const remote = profile.configuration.sftp
  const usesSftp = remote.credential !== undefined && sftp !== undefined
  const { actor } = authOf(context)
  const started = await startInTransaction(tx, {
    tenantId: profile.id,
    actor,
    requestId: context.requestId,
    path: usesSftp ? templates.sftp : templates.plain,
    trigger: 'provision',
    parameters: usesSftp ? { remote_directory: remote.remoteDirectory } : {},
    idempotencyKey: 'provision',
    inputHash: null,
  })
  if (!('runId' in started)) throw new Error('the template of provisioning does not start')
  if (started.created) return started.runId
  const run = await readState(tx, profile.id, started.runId)
  if (run && ['failed', 'cancelled', 'timed_out'].includes(run.state)) {
    if (sftp) await putSftp(context, tx, profile.id, sftp)
    await retryRun(tx, { runId: started.runId, from: null, actor, requestId: context.requestId })
  }
  return started.runId
}

async function waitFor(context: Context, tenantId: string, runId: string): Promise<void> {
  const { clock, hub } = context.ports
  const until = clock.now().getTime() + context.waits.provisionMs
  for (;;) {
    const over = new AbortController()
    const left = until - clock.now().getTime()
    const hint = hub.wait({ tenantId, runId }, Math.max(1, Math.min(lookAgainMs, left)), over.signal)
    try {
      const run = await inNewTenant(context, tenantId, (tx) => readState(tx, tenantId, runId))
      if (run?.state === 'succeeded') return
      if (run?.state === 'failed') throw failed(run.error)
      if (run?.state === 'cancelled' || run?.state === 'timed_out')
        throw new AppError('CONFLICT', 'Preparing the tenant was stopped.', { hint: 'Repeat the call to go on.' })
      if (left <= 0) throw late(run?.state ?? 'queued')
      await hint
    } finally {
      over.abort()
    }
  }
}

const readState = async (tx: Tx, tenantId: string, runId: string) => {
  const [row] = await tx
    .select({ state: pipelineRun.state, error: pipelineRun.error })
    .from(pipelineRun)
    .where(and(eq(pipelineRun.tenantId, tenantId), eq(pipelineRun.runId, runId)))
  return row
}

function late(state: string): AppError {
  const message =
    state === 'queued'
      ? 'No worker took up the preparation of this tenant in time.'
      : 'The preparation of this tenant is still running.'
  return new AppError('UNAVAILABLE', message, { hint: 'Start a worker if none runs, then repeat the call to finish.' })
}

function failed(error: typeof pipelineRun.$inferSelect.error): AppError {
  const code = error?.code
  const known: ErrorCode = code !== undefined && isErrorCode(code) ? code : 'INTERNAL'
  const step = error?.step ?? 'unknown'
  return new AppError(known, `Preparing the tenant failed at step ${step}: ${error?.message ?? 'no reason is known'}`, {
    hint: `${error?.hint ?? errorCodes[known].hint} Then repeat the call to go on.`,
  })
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errorCodes, code)

const inNewTenant = <T>(context: Context, tenantId: string, work: (tx: Tx) => Promise<T>): Promise<T> =>
  withTenant(context.ports.db, { tenantId, side: 'api' }, work)
