import { and, eq } from 'drizzle-orm'
import { credential, credentialVersion } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { catalog } from '../../shared/config/catalog.ts'
import type { Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import { startInTransaction } from '../../shared/runs/start-in-transaction.ts'
import { wakeRun } from '../../shared/runs/wake-run.ts'
import type { SecretBox } from '../../shared/secrets/secret-box.ts'
import { type Context, inTenant } from '../context.ts'
import { checkedName, checkedSecret } from './check-secret.ts'
import type { CredentialRow } from './graphql.ts'

/** A credential to store. `isQueued`: it may be used only when a worker has logged in with it. */
export type CredentialRequest = {
  name: string
  provider: string
  secret?: unknown
  isQueued?: boolean
}

/**
 * Seals a credential with the tenant's data key and stores it. A queued one is pending until the run that tries it out has
 * ended, and active or failed then; where its provider has no test it is active at once. Throws BAD_INPUT or
 * CREDENTIAL_INVALID, which name fields and never values, ALREADY_EXISTS for a name that is taken, QUOTA_EXCEEDED.
 */
export async function createCredential(context: Context, given: CredentialRequest): Promise<CredentialRow> {
  const input = { ...checkedName(given), secret: checkedSecret(given.provider, given.secret) }
  const isTested = given.isQueued === true && testedProviders.includes(input.provider)
  const { requestId } = context
  const row = await inTenant(context, async (tx, { tenantId, actor }) => {
    const status = isTested ? 'pending' : 'active'
    const by = { tenantId, actor, requestId }
    const made = await insertCredential(tx, context.ports.secrets, { ...input, ...by, status })
    return isTested ? startTest(tx, made, by) : made
  })
  const { tenantId, checkRun } = row
  if (checkRun !== null) context.later(() => wakeRun(context.ports, { tenantId, runId: checkRun }, 'api'))
  return row
}

const testedProviders = catalog.find(({ type }) => type === 'credential.check')?.credentialProviders ?? []

// The secret goes with neither the run nor its message: the worker opens the credential by its name.
async function startTest(
  tx: Tx,
  row: CredentialRow,
  by: { tenantId: string; actor: string; requestId: string },
): Promise<CredentialRow> {
  const started = await startInTransaction(tx, {
    ...by,
    path: 'system/credential/check',
    trigger: 'activate',
    parameters: { provider: row.provider },
    credential: row.name,
    idempotencyKey: null,
    inputHash: null,
  })
  if (!('runId' in started)) throw new Error('the template of the test does not start')
  await tx
    .update(credential)
    .set({ checkRun: started.runId })
    .where(and(eq(credential.tenantId, row.tenantId), eq(credential.id, row.id)))
  return { ...row, checkRun: started.runId }
}

/** What is stored, for whom and by whom. */
export type NewCredential = {
  tenantId: string
  name: string
  provider: string
  secret: Record<string, unknown>
  actor: string
  requestId: string
  /** Default: active. */
  status?: 'pending' | 'active'
}

/** Writes a credential and its audit row in the caller's transaction. Throws ALREADY_EXISTS. */
export async function insertCredential(tx: Tx, secrets: SecretBox, given: NewCredential): Promise<CredentialRow> {
  const { tenantId, name, provider, actor, status = 'active' } = given
  const id = newId('credential')
  const sealed = await secrets.seal(tx, { tenantId, credentialId: id, version: 1 }, given.secret)
  const [row] = await tx
    .insert(credential)
    .values({ tenantId, id, name, provider, version: 1, sealed, createdBy: actor, status })
    .onConflictDoNothing()
    .returning(shownColumns)
  if (!row) throw new AppError('ALREADY_EXISTS', `A credential named ${name} exists.`, { place: { path: 'name' } })
  await tx.insert(credentialVersion).values({ tenantId, credentialId: id, version: 1, provider, createdBy: actor })
  await audit(tx, {
    tenantId,
    actor,
    action: 'credential.created',
    target: id,
    requestId: given.requestId,
    details: { name, provider, status },
  })
  return row
}

/** Everything of a credential but its value. */
export const shownColumns = {
  tenantId: credential.tenantId,
  id: credential.id,
  name: credential.name,
  provider: credential.provider,
  version: credential.version,
  createdBy: credential.createdBy,
  createdAt: credential.createdAt,
  updatedAt: credential.updatedAt,
  status: credential.status,
  problem: credential.problem,
  checkRun: credential.checkRun,
}
