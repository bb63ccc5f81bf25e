import { and, eq, isNotNull, sql } from 'drizzle-orm'
import { z } from 'zod'
import type { SealedData } from '../schema/sealed.ts'
import { auditSubject } from '../schema/tables/index.ts'
import type { Tx } from './db/db.ts'
import { contextOf, decrypt, encrypt, importKey, unreadable } from './secrets/aes-gcm.ts'
import { openStored, type SecretBox, type SecretOwner } from './secrets/secret-box.ts'

/** An entry as its personal details are bound to it: copied into another one they do not open. */
export type PersonalOwner = { tenantId: string; subject: string; action: string; target: string }

/** Opens the personal details of a subject's entries. */
export type SubjectKey = CryptoKey

/**
 * Encrypts personal details under their subject's key, which is made at first use. Answers the text for the log, or null
 * when the subject was erased: nothing about it is kept any more. Throws SECRET_UNREADABLE when the tenant's data keys
 * are gone.
 */
export async function sealPersonal(
  tx: Tx,
  secrets: SecretBox,
  owner: PersonalOwner,
  personal: Record<string, string>,
): Promise<string | null> {
  const { tenantId, subject } = owner
  const key = (await subjectKey(tx, secrets, tenantId, subject)) ?? (await makeKey(tx, secrets, tenantId, subject))
  if (key === 'erased') return null
  const { iv, ct } = await encrypt(key, new TextEncoder().encode(JSON.stringify(personal)), entryContext(owner))
  return `${iv}.${ct}`
}

/** What `sealPersonal` sealed. Throws SECRET_UNREADABLE for another entry, key or altered byte. */
export async function openPersonal(
  key: SubjectKey,
  owner: PersonalOwner,
  sealed: string,
): Promise<Record<string, string>> {
  const [iv = '', ct = ''] = sealed.split('.')
  const plain = new TextDecoder().decode(await decrypt(key, { iv, ct }, entryContext(owner)))
  return personalShape.parse(JSON.parse(plain))
}

/**
 * The key of a subject: undefined when it never had one, `erased` when it was destroyed. Throws SECRET_UNREADABLE when
 * the tenant's data keys are gone.
 */
export async function subjectKey(
  tx: Tx,
  secrets: SecretBox,
  tenantId: string,
  subject: string,
): Promise<SubjectKey | 'erased' | undefined> {
  let isErased = false
  const owner = keyOwner(tenantId, subject)
  const found = await openStored(tx, secrets, async () => {
    const [row] = await tx.select().from(auditSubject).where(isSubject(tenantId, subject))
    isErased = row !== undefined && row.sealed === null
    return row?.sealed ? { sealed: row.sealed, owner } : undefined
  })
  if (!found) return isErased ? 'erased' : undefined
  const raw = keyShape.safeParse(found.secret)
  if (!raw.success) throw unreadable('it is not the key of a subject')
  return importKey(Uint8Array.from(raw.data))
}

/**
 * Destroys the key of a subject, which makes everything personal of it in the log unreadable for ever; the log itself
 * does not change. False when there was none to destroy. Nothing personal of it is logged from now on.
 */
export async function eraseSubject(tx: Tx, tenantId: string, subject: string): Promise<boolean> {
  // Held against whoever logs something about it right now and would make the key after this.
  const erased = { sealed: null, erasedAt: sql`clock_timestamp()` }
  const [before] = await tx.select().from(auditSubject).where(isSubject(tenantId, subject)).for('update')
  await tx
    .insert(auditSubject)
    .values({ tenantId, subject, ...erased })
    .onConflictDoUpdate({ target: [auditSubject.tenantId, auditSubject.subject], set: erased })
  return before?.sealed != null
}

/** Destroys the keys of all subjects of a tenant; answers how many. */
export async function eraseSubjects(tx: Tx, tenantId: string): Promise<number> {
  const rows = await tx
    .update(auditSubject)
    .set({ sealed: null, erasedAt: sql`clock_timestamp()` })
    .where(and(eq(auditSubject.tenantId, tenantId), isNotNull(auditSubject.sealed)))
    .returning({ subject: auditSubject.subject })
  return rows.length
}

/** Seals a subject's key anew with the tenant's current data key; what it encrypted stays as it is. */
export async function resealSubject(
  tx: Tx,
  secrets: SecretBox,
  row: { tenantId: string; subject: string; sealed: SealedData },
): Promise<void> {
  const { tenantId, subject } = row
  const owner = keyOwner(tenantId, subject)
  const sealed = await secrets.seal(tx, owner, await secrets.open(tx, owner, row.sealed))
  await tx.update(auditSubject).set({ sealed }).where(isSubject(tenantId, subject))
}

// Two who log about a new subject at once agree on the key that was stored first.
async function makeKey(tx: Tx, secrets: SecretBox, tenantId: string, subject: string): Promise<SubjectKey | 'erased'> {
  // The platform's own tenant is not onboarded; every other one has its data key already.
  await secrets.createTenantKey(tx, tenantId)
  const raw = [...crypto.getRandomValues(new Uint8Array(32))]
  const sealed = await secrets.seal(tx, keyOwner(tenantId, subject), raw)
  await tx.insert(auditSubject).values({ tenantId, subject, sealed }).onConflictDoNothing()
  const key = await subjectKey(tx, secrets, tenantId, subject)
  if (key === undefined) throw new Error('the key of a subject that was just made is not there')
  return key
}

const personalShape = z.record(z.string(), z.string())
const keyShape = z.array(z.int().min(0).max(255)).length(32)

const isSubject = (tenantId: string, subject: string) =>
  and(eq(auditSubject.tenantId, tenantId), eq(auditSubject.subject, subject))

// No credential has such an id, so that neither opens in the place of the other.
const keyOwner = (tenantId: string, subject: string): SecretOwner => ({
  tenantId,
  credentialId: `audit-subject ${subject}`,
  version: 1,
})

const entryContext = ({ tenantId, subject, action, target }: PersonalOwner): Uint8Array<ArrayBuffer> =>
  contextOf('audit', tenantId, subject, action, target)
