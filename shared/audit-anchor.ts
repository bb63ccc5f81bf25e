import { z } from 'zod'
import { fieldsText, type Link } from './audit-chain.ts'

/** A line that witnesses a tenant's log at a moment: with a signature an anchor, without one somebody's note. */
export const witnessShape = z.object({
  tenantId: z.string(),
  seq: z.int().min(0),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  /** When it was signed. */
  at: z.iso.datetime().optional(),
  /** Ed25519, base64. */
  signature: z.string().optional(),
})
/** A witness of a log. */
export type Witness = z.output<typeof witnessShape>
/** A witness that is signed. */
export type Anchor = Link & { tenantId: string; at: string; signature: string }

const algorithm = { name: 'Ed25519' } as const

/** Makes a pair of keys for anchors, as JSON Web Keys. */
export async function makeAnchorKeys(): Promise<{ privateKey: JsonWebKey; publicKey: JsonWebKey }> {
  const pair = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const [privateKey, publicKey] = await Promise.all([
    crypto.subtle.exportKey('jwk', pair.privateKey),
    crypto.subtle.exportKey('jwk', pair.publicKey),
  ])
  return { privateKey, publicKey }
}

/** Signs heads, each for its tenant. */
export async function signAnchors(
  privateKey: JsonWebKey,
  heads: readonly (Link & { tenantId: string })[],
  at: Date,
): Promise<Anchor[]> {
  const key = await crypto.subtle.importKey('jwk', privateKey, algorithm, false, ['sign'])
  return Promise.all(
    heads.map(async ({ tenantId, seq, hash }) => {
      const anchor = { tenantId, seq, hash, at: at.toISOString() }
      const signature = await crypto.subtle.sign(algorithm, key, anchorBytes(anchor))
      return { ...anchor, signature: btoa(String.fromCharCode(...new Uint8Array(signature))) }
    }),
  )
}

/** Whether the owner of `publicKey` signed this witness as it stands. */
export async function isAnchor(publicKey: JsonWebKey, witness: Witness): Promise<boolean> {
  const { at, signature } = witness
  if (at === undefined || signature === undefined || !/^[A-Za-z0-9+/]{86}==$/.test(signature)) return false
  const bytes = Uint8Array.from(atob(signature), (c) => c.charCodeAt(0))
  const key = await crypto.subtle.importKey('jwk', publicKey, algorithm, false, ['verify'])
  return crypto.subtle.verify(algorithm, key, bytes, anchorBytes({ ...witness, at }))
}

function anchorBytes({ tenantId, seq, hash, at }: Omit<Anchor, 'signature'>): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(fieldsText(['tributary.anchor.1', tenantId, `${seq}`, hash, at]))
}
