import { and, eq } from 'drizzle-orm'
import { z } from 'zod'
import { runStep } from '../../schema/tables/index.ts'
import { AppError, type ErrorCode, errorCodes } from '../../shared/errors.ts'
import { startInTransaction } from '../../shared/runs/start-in-transaction.ts'
import { type Context, inTenant, readInTenant } from '../context.ts'
import { lockCredential, missingCredential } from '../credentials/update-credential.ts'
import { type Refusal, refusalOf } from '../graphql/user-errors.ts'
import { outcomeError, waitForRun } from '../runs/wait-for-run.ts'
import { wakeQueues } from '../runs/wake-queues.ts'

/** What a test found. `hostKey` is the fingerprint that an SFTP server shows whose key is not pinned. */
export type CredentialTest = { ok: boolean; problem: Refusal | null; hostKey: string | null }

const template = 'system/credential/check'
const answerShape = z.object({
  ok: z.boolean(),
  code: z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]).optional(),
  message: z.string().default(''),
  hint: z.string().default(''),
  host_key: z.string().optional(),
})

/**
 * Has a worker log in with a credential and waits for what it finds. Throws NOT_FOUND, QUOTA_EXCEEDED, and UNAVAILABLE
 * when no worker has answered in time.
 */
export async function testCredential(context: Context, name: string): Promise<CredentialTest> {
  const { tenantId, runId } = await startTest(context, name)
  wakeQueues(context, runId)
  const outcome = await waitForRun(context, { tenantId, runId }, context.waits.provisionMs)
  if (outcome.state === 'failed')
    return { ok: false, problem: refusalOf(outcomeError(outcome, 'The test')), hostKey: null }
  if (outcome.state !== 'succeeded') throw outcomeError(outcome, 'The test')
  const [step] = await readInTenant(context, (db) =>
    db
      .select({ result: runStep.result })
      .from(runStep)
      .where(and(eq(runStep.tenantId, tenantId), eq(runStep.runId, runId))),
  )
  const { ok, code, message, hint, host_key } = answerShape.parse(step?.result)
  const problem = ok || !code ? null : refusalOf(new AppError(code, message, { hint }))
  return { ok, problem, hostKey: host_key ?? null }
}

function startTest(context: Context, name: string): Promise<{ tenantId: string; runId: string }> {
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const found = await lockCredential(tx, tenantId, name)
    if (!found) throw missingCredential()
    const started = await startInTransaction(tx, {
      tenantId,
      actor,
      requestId: context.requestId,
      path: template,
      trigger: 'check',
      parameters: { provider: found.provider },
      credential: name,
      idempotencyKey: null,
      inputHash: null,
    })
    if ('runId' in started) return { tenantId, runId: started.runId }
    throw new Error('the template of the test does not start')
  })
}
