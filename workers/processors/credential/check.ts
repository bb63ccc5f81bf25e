import { z } from 'zod'
import { gcpShape, postgresShape, sftpShape } from '../../../schema/config/credentials.ts'
import { errorData } from '../../../shared/errors.ts'
import { defineProcessor, type OutputValue, type StepContext, type StepResult } from '../../define.ts'
import { listSftp } from '../../delivery/sftp.ts'
import { fetchHostKey } from '../../delivery/sftp-session.ts'
import bigquery from '../../sources/bigquery.ts'
import postgres from '../../sources/postgres.ts'

const providers = ['gcp', 'postgres', 'sftp'] as const

const settingsShape = z.strictObject({
  provider: z.enum(providers).describe('Provider of the credential.'),
})

/**
 * `credential.check`: logs in at the other end and asks it something small. What is wrong is its answer and not its
 * failure: `ok`, and `code`, `message`, `hint` when it is false; `host_key` is what a server shows that is not pinned.
 */
export default defineProcessor({
  type: 'credential.check',
  title: 'Check a credential',
  description: 'Logs in at the other end, lists or queries something small, and answers what is wrong.',
  queue: 'ingest',
  settings: settingsShape,
  credentialProviders: providers,
  writes: false,
  run: check,
})

async function check(ctx: StepContext, { provider }: z.output<typeof settingsShape>): Promise<StepResult> {
  try {
    await checks[provider](ctx)
    return { outputs: { ok: true } }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const { code, message, hint } = errorData(error)
    if (code === 'INTERNAL') throw error
    const outputs: Record<string, OutputValue> = { ok: false, code, message, hint }
    return { outputs: code === 'HOST_KEY_MISSING' ? { ...outputs, ...(await shownKey(ctx)) } : outputs }
  }
}

const checks: Readonly<Record<(typeof providers)[number], (ctx: StepContext) => Promise<void>>> = {
  gcp: (ctx) => bigquery.check(ctx, ctx.secret(gcpShape)),
  postgres: (ctx) => postgres.check(ctx, ctx.secret(postgresShape)),
  sftp: async (ctx) => void (await listSftp(ctx.secret(sftpShape), '.', ctx)),
}

// Without a pinned key nothing but the key is asked for: no password goes to a server that nobody has confirmed. One
// that does not even answer is what is wrong then.
async function shownKey(ctx: StepContext): Promise<Record<string, OutputValue>> {
  try {
    return { host_key: await fetchHostKey(ctx.secret(sftpShape), ctx) }
  } catch (error) {
    ctx.signal.throwIfAborted()
    const { code, message, hint } = errorData(error)
    return { code, message, hint }
  }
}
