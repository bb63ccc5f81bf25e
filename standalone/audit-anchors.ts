import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { appendFile, open } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { z } from 'zod'
import { makeAnchorKeys, signAnchors, type Witness, witnessShape } from '../shared/audit-anchor.ts'
import type { Link } from '../shared/audit-chain.ts'
import type { Clock } from '../shared/clock.ts'
import { type Db, rowsOf } from '../shared/db/db.ts'
import { describeError, type Log } from '../shared/log.ts'

/** Where the embedded mode keeps its anchors and the keys that sign them. Copies elsewhere make them stronger. */
export const anchorFiles = (dataDir: string) => ({
  anchors: join(dataDir, 'audit-anchors.ndjson'),
  signingKey: join(dataDir, 'audit-anchor-key.json'),
  publicKey: join(dataDir, 'audit-anchor-public-key.json'),
})

/** A tenant and the head of its log; no head before the first entry. */
export type TenantHead = { tenantId: string; head: Link | undefined }

const jwk = z.looseObject({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string(), d: z.string().optional() })
const everyMs = 10 * 60_000

/** Anchors all heads now, every ten minutes and at `stop`. A failure is logged and tried again with the next round. */
export function keepAnchors(db: Db, dataDir: string, ports: { clock: Clock; log: Log }): { stop(): Promise<void> } {
  const files = anchorFiles(dataDir)
  const leaving = new AbortController()
  const anchored = new Map<string, number>()
  const round = async (): Promise<void> => {
    try {
      await writeAnchors(db, files.anchors, await signingKey(files), ports.clock.now(), anchored)
    } catch (error) {
      ports.log.error('audit.anchor', { error: describeError(error) })
    }
  }
  const rounds = (async () => {
    for (;;) {
      await round()
      if (leaving.signal.aborted) return
      await ports.clock.sleep(everyMs, leaving.signal)
    }
  })()
  return {
    stop() {
      leaving.abort()
      return rounds
    },
  }
}

/** Appends a signed line per log that moved since `anchored` was last filled; answers how many. */
export async function writeAnchors(
  db: Db,
  file: string,
  privateKey: JsonWebKey,
  now: Date,
  anchored: Map<string, number> = new Map(),
): Promise<number> {
  const moved = (await tenantHeads(db)).flatMap(({ tenantId, head }) =>
    head && head.seq !== anchored.get(tenantId) ? [{ tenantId, ...head }] : [],
  )
  if (moved.length === 0) return 0
  const lines = (await signAnchors(privateKey, moved, now)).map((anchor) => `${JSON.stringify(anchor)}\n`)
  await appendFile(file, lines.join(''), { mode: 0o600 })
  for (const { tenantId, seq } of moved) anchored.set(tenantId, seq)
  return moved.length
}

/** The lines of a file of witnesses or anchors, one by one. Throws at one that is neither. */
export async function* readWitnesses(file: string): AsyncGenerator<Witness> {
  const handle = await open(file)
  for await (const line of handle.readLines()) if (line.trim() !== '') yield witnessShape.parse(JSON.parse(line))
}

/** A key of a file that holds it as a JSON Web Key. */
export function readAnchorKey(file: string): JsonWebKey {
  return jwk.parse(JSON.parse(readFileSync(file, 'utf8')))
}

/** Every tenant with its head. The login must be one that may become tributary_ledger, as the database's owner may. */
export function tenantHeads(db: Db): Promise<TenantHead[]> {
  return db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('role', 'tributary_ledger', true)`)
    const rows = await rowsOf<{ id: string; seq: string | null; hash: string | null }>(
      tx,
      sql`select t.id, h.seq::text as seq, h.hash from app.tenant t left join app.audit_head h on h.tenant_id = t.id order by t.id`,
    )
    return rows.map(({ id, seq, hash }) => ({
      tenantId: id,
      head: seq === null || hash === null ? undefined : { seq: Number(seq), hash },
    }))
  })
}

// Made once; the private half is for the owner's eyes only.
async function signingKey(files: ReturnType<typeof anchorFiles>): Promise<JsonWebKey> {
  if (existsSync(files.signingKey)) return readAnchorKey(files.signingKey)
  const { privateKey, publicKey } = await makeAnchorKeys()
  writeFileSync(files.publicKey, JSON.stringify(publicKey))
  writeFileSync(files.signingKey, JSON.stringify(privateKey), { flag: 'wx', mode: 0o600 })
  return privateKey
}
