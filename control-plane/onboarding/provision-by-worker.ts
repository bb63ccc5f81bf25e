import { eq } from 'drizzle-orm'
import { tenant } from '../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { retryRun } from '../../shared/runs/ledger.ts'
import { startInTransaction } from '../../shared/runs/start-in-transaction.ts'
import { authOf, type Context } from '../context.ts'
import { hasEnded, outcomeError, readOutcome, waitForRun } from '../runs/wait-for-run.ts'
import { wakeQueues } from '../runs/wake-queues.ts'
import type { OnboardRequest } from './input.ts'
import { putSftp } from './put-sftp.ts'
import { once } from './step.ts'

const templates = { plain: 'system/tenant/provision', sftp: 'system/tenant/provision_sftp' } as const

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
  const outcome = await waitForRun(context, { tenantId, runId }, context.waits.provisionMs)
  if (outcome.state !== 'succeeded') throw outcomeError(outcome, 'Preparing the tenant')
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
  const { state } = await readOutcome(tx, { tenantId: profile.id, runId: started.runId })
  if (hasEnded(state) && state !== 'succeeded') {
    if (sftp) await putSftp(context, tx, profile.id, sftp)
    await retryRun(tx, { runId: started.runId, from: null, actor, requestId: context.requestId })
  }
  return started.runId
}

const inNewTenant = <T>(context: Context, tenantId: string, work: (tx: Tx) => Promise<T>): Promise<T> =>
  withTenant(context.ports.db, { tenantId, side: 'api' }, work)
