import { sql } from 'drizzle-orm'
import type { Witness } from './audit-anchor.ts'
import { lostWitness } from './audit-verify.ts'
import { type Db, rowsOf, type Side, withLedger, withTenant } from './db/db.ts'

const tenantsPerRead = 500
const witnessesPerBatch = 5_000

/** Ids of all tenants after `after`, in order, read page by page. Ids are all that it sees. */
export async function* tenantIds(db: Db, side: Side, after = ''): AsyncGenerator<string> {
  for (let last = after; ;) {
    const page = await withLedger(db, side, (tx) =>
      rowsOf<{ id: string }>(tx, sql`select o_tenant as id from app.audit_tenants(${last}, ${tenantsPerRead})`),
    )
    for (const { id } of page) yield id
    if (page.length < tenantsPerRead) return
    last = page.at(-1)?.id ?? last
  }
}

/** What witnesses say of each tenant: how many there are, and the first number at which the log is not what one saw. */
export type Seen = Map<string, { count: number; lost: number | undefined }>

/**
 * Asks every log whether it still holds what its witnesses saw. Reads them in batches, so that a file of any length will
 * do; what it answers is as large as there are tenants. Tenants that there are not have lost their first witness.
 */
export async function compareWitnesses(
  db: Db,
  side: Side,
  witnesses: AsyncIterable<Witness> | Iterable<Witness>,
  seen: Seen = new Map(),
): Promise<Seen> {
  let batch: Witness[] = []
  for await (const witness of witnesses) {
    batch.push(witness)
    if (batch.length < witnessesPerBatch) continue
    await compareBatch(db, side, batch, seen)
    batch = []
  }
  await compareBatch(db, side, batch, seen)
  return seen
}

async function compareBatch(db: Db, side: Side, batch: Witness[], seen: Seen): Promise<void> {
  for (const [tenantId, own] of Map.groupBy(batch, (witness) => witness.tenantId)) {
    const lost = await withTenant(db, { tenantId, side }, (tx) => lostWitness(tx, tenantId, own))
    const before = seen.get(tenantId)
    const first = Math.min(lost ?? Infinity, before?.lost ?? Infinity)
    seen.set(tenantId, { count: (before?.count ?? 0) + own.length, lost: first === Infinity ? undefined : first })
  }
}
