import { sql } from 'drizzle-orm'
import { fieldsText, type Link } from './audit-chain.ts'
import { rowsOf, type Tx } from './db/db.ts'
import type { SigningKeys } from './secrets/signing-keys.ts'

/** The last entry that a cut took from a log, signed by the platform: what is left goes on after it. */
export type Checkpoint = Link & {
  tenantId: string
  /** UTC to the microsecond. */
  cutAt: string
  keyId: string
  /** Ed25519, hexadecimal. */
  signature: string
}

/** The public key of this id as a JSON Web Key; undefined for one that is not the platform's. */
export type CheckpointKeys = (keyId: string) => Promise<JsonWebKey | undefined>

const algorithm = { name: 'Ed25519' } as const

/** Signs with the platform's current key. */
export async function signCheckpoint(
  signing: SigningKeys,
  { tenantId, seq, hash, cutAt }: Omit<Checkpoint, 'keyId' | 'signature'>,
): Promise<Checkpoint> {
  const { id: keyId, privateKey } = await signing.currentPair()
  const key = await crypto.subtle.importKey('jwk', privateKey, algorithm, false, ['sign'])
  const signature = new Uint8Array(
    await crypto.subtle.sign(algorithm, key, bytesOf({ tenantId, seq, hash, cutAt, keyId })),
  )
  return {
    tenantId,
    seq,
    hash,
    cutAt,
    keyId,
    signature: Array.from(signature, (byte) => byte.toString(16).padStart(2, '0')).join(''),
  }
}

/** The keys of a platform that signs itself. */
export const checkpointKeys =
  (signing: SigningKeys): CheckpointKeys =>
  async (keyId) =>
    (await signing.findPair(keyId))?.publicKey

/** Whether the platform signed this checkpoint as it stands. */
export async function isSigned(keys: CheckpointKeys, checkpoint: Checkpoint): Promise<boolean> {
  const { keyId, signature } = checkpoint
  // One signature has one text: no other spelling of the same bytes is taken.
  if (!/^[0-9a-f]{128}$/.test(signature)) return false
  const publicKey = await keys(keyId)
  if (!publicKey) return false
  const key = await crypto.subtle.importKey('jwk', publicKey, algorithm, false, ['verify'])
  const bytes = Uint8Array.from({ length: 64 }, (_, i) => Number.parseInt(signature.slice(2 * i, 2 * i + 2), 16))
  return crypto.subtle.verify(algorithm, key, bytes, bytesOf(checkpoint))
}

/** Where the log of the transaction's tenant begins; undefined for one that was never cut. */
export async function readCheckpoint(tx: Tx, tenantId: string): Promise<Checkpoint | undefined> {
  const [row] = await rowsOf<Omit<Checkpoint, 'seq' | 'tenantId'> & { seq: string }>(
    tx,
    sql`select c.seq::text as seq, c.hash, to_char(c.cut_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "cutAt",
          c.key_id as "keyId", c.signature
        from app.audit_checkpoint c where c.tenant_id = ${tenantId} order by c.seq desc limit 1`,
  )
  return row && { ...row, tenantId, seq: Number(row.seq) }
}

/**
 * Signs the newest checkpoint of a tenant with the current key when another one of the platform signed it; one that none
 * did stays as it is, to be found. False when there was nothing to do. The transaction is one of tributary_ledger.
 */
export async function resignCheckpoint(tx: Tx, signing: SigningKeys, tenantId: string): Promise<boolean> {
  const found = await readCheckpoint(tx, tenantId)
  const { id } = await signing.currentPair()
  if (!found || found.keyId === id || !(await isSigned(checkpointKeys(signing), found))) return false
  const { seq, keyId, signature } = await signCheckpoint(signing, found)
  await tx.execute(
    sql`update app.audit_checkpoint set key_id = ${keyId}, signature = ${signature} where tenant_id = ${tenantId} and seq = ${seq}`,
  )
  return true
}

function bytesOf({ tenantId, seq, hash, cutAt, keyId }: Omit<Checkpoint, 'signature'>): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(fieldsText(['tributary.checkpoint.1', tenantId, `${seq}`, hash, cutAt, keyId]))
}
