import { and, eq, inArray, or, sql } from 'drizzle-orm'
import { auditSubject, credential, tenant, tenantKey, webhook } from '../../schema/tables/index.ts'
import { resealSubject } from '../../shared/audit-personal.ts'
import { audit } from '../../shared/audit.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { SecretBox } from '../../shared/secrets/secret-box.ts'
import { resealWebhook } from '../../shared/webhooks/open-webhook.ts'
import { authOf, type Context } from '../context.ts'

const batchRows = 50
// What one request may do; whoever has more credentials calls again.
const batchesMax = 100

/** How a rotation stands: the version that seals now, what this call sealed anew, and whether older keys are destroyed. */
export type KeyRotation = { version: number; resealed: number; done: boolean }

/**
 * Gives a tenant a new data key, seals its credentials, its webhooks' secrets and its keys of persons anew in batches, and
 * destroys the old key when nothing is sealed with it any more. Each batch is a transaction: a call after a crash, or after `done: false`, goes on where it stopped
 * and makes no further key. Runs open credentials all the while. Throws NOT_FOUND, and CONFLICT for a tenant whose keys
 * were destroyed.
 */
export async function rotateTenantKey(context: Context, tenantId: string): Promise<KeyRotation> {
  const { secrets } = context.ports
  const inThatTenant = <T>(work: (tx: Tx) => Promise<T>): Promise<T> =>
    withTenant(context.ports.db, { tenantId, side: 'api' }, work)
  const version = await inThatTenant((tx) => beginOrGoOn(context, tx, tenantId))
  let resealed = 0
  for (let batch = 0; batch < batchesMax; batch++) {
    const rows = await inThatTenant((tx) => resealBatch(tx, secrets, tenantId))
    resealed += rows
    if (rows === 0 && (await inThatTenant((tx) => finish(context, tx, tenantId))))
      return { version, resealed, done: true }
  }
  return { version, resealed, done: false }
}

// The tenant's row is locked: two calls at once share one rotation. Not against rows that refer to it: who seals a
// credential right now holds the key that is to be rotated, and still writes its audit row.
async function beginOrGoOn(context: Context, tx: Tx, tenantId: string): Promise<number> {
  const [owner] = await tx.select().from(tenant).where(eq(tenant.id, tenantId)).for('no key update')
  if (!owner) throw new AppError('NOT_FOUND', 'There is no such tenant.', { place: { path: 'tenantId' } })
  const keys = await tx.select().from(tenantKey).where(eq(tenantKey.tenantId, tenantId))
  const current = keys.find(({ state }) => state === 'current')
  if (!current) throw new AppError('CONFLICT', 'This tenant has no data key.', { place: { path: 'tenantId' } })
  if (keys.some(({ state }) => state === 'retired')) return current.version
  const version = await context.ports.secrets.rotateTenantKey(tx, tenantId)
  await note(context, tx, tenantId, 'tenant_key.rotated', { version })
  return version
}

async function resealBatch(tx: Tx, secrets: SecretBox, tenantId: string): Promise<number> {
  const rows = await tx
    .select()
    .from(credential)
    .where(and(eq(credential.tenantId, tenantId), isLeftBehind(tx, tenantId, credential.sealed)))
    .orderBy(credential.id)
    .limit(batchRows)
    .for('update')
  for (const row of rows) {
    const owner = { tenantId, credentialId: row.id, version: row.version }
    const sealed = await secrets.seal(tx, owner, await secrets.open(tx, owner, row.sealed))
    await tx
      .update(credential)
      .set({ sealed })
      .where(and(eq(credential.tenantId, tenantId), eq(credential.id, row.id)))
  }
  const subjects = await tx
    .select()
    .from(auditSubject)
    .where(and(eq(auditSubject.tenantId, tenantId), isLeftBehind(tx, tenantId, auditSubject.sealed)))
    .orderBy(auditSubject.subject)
    .limit(batchRows)
    .for('update')
  for (const { subject, sealed } of subjects)
    if (sealed) await resealSubject(tx, secrets, { tenantId, subject, sealed })
  const webhooks = await tx
    .select()
    .from(webhook)
    .where(webhooksLeftBehind(tx, tenantId))
    .orderBy(webhook.id)
    .limit(batchRows)
    .for('update')
  for (const row of webhooks) await resealWebhook(tx, secrets, row)
  return rows.length + subjects.length + webhooks.length
}

// Nothing seals with a retired key any more, so what is not sealed with one now never will be. False when another call
// has begun a further rotation meanwhile.
async function finish(context: Context, tx: Tx, tenantId: string): Promise<boolean> {
  await tx.select().from(tenant).where(eq(tenant.id, tenantId)).for('no key update')
  const [left] = await tx
    .select({ id: credential.id })
    .from(credential)
    .where(and(eq(credential.tenantId, tenantId), isLeftBehind(tx, tenantId, credential.sealed)))
    .limit(1)
  const [leftSubject] = await tx
    .select({ subject: auditSubject.subject })
    .from(auditSubject)
    .where(and(eq(auditSubject.tenantId, tenantId), isLeftBehind(tx, tenantId, auditSubject.sealed)))
    .limit(1)
  const [leftWebhook] = await tx
    .select({ id: webhook.id })
    .from(webhook)
    .where(webhooksLeftBehind(tx, tenantId))
    .limit(1)
  if (left ?? leftSubject ?? leftWebhook) return false
  const destroyed = await context.ports.secrets.destroyTenantKeys(tx, tenantId, 'retired')
  if (destroyed > 0) await note(context, tx, tenantId, 'tenant_key.destroyed', { keys: destroyed, which: 'retired' })
  return true
}

const webhooksLeftBehind = (tx: Tx, tenantId: string) =>
  and(
    eq(webhook.tenantId, tenantId),
    or(isLeftBehind(tx, tenantId, webhook.sealed), isLeftBehind(tx, tenantId, webhook.previousSealed)),
  )

type SealedColumn =
  | typeof credential.sealed
  | typeof auditSubject.sealed
  | typeof webhook.sealed
  | typeof webhook.previousSealed

// Sealed with a key that seals no more.
const isLeftBehind = (tx: Tx, tenantId: string, sealed: SealedColumn) =>
  inArray(
    sql`(${sealed} ->> 'key')::int`,
    tx
      .select({ version: tenantKey.version })
      .from(tenantKey)
      .where(and(eq(tenantKey.tenantId, tenantId), eq(tenantKey.state, 'retired'))),
  )

function note(context: Context, tx: Tx, tenantId: string, action: string, details: object): Promise<void> {
  const { actor } = authOf(context)
  return audit(tx, { tenantId, actor, action, target: tenantId, requestId: context.requestId, details: { ...details } })
}
