import { hash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { checkpointKeys, signCheckpoint } from '../shared/audit-checkpoint.ts'
import { verifyAudit } from '../shared/audit-verify.ts'
import { rowsOf, withLedger, withTenant } from '../shared/db/db.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'

type AuditPorts = Pick<Ports, 'db' | 'signing' | 'clock' | 'log'>

// One cut deletes at most so many rows in one transaction; what is left goes with the next.
const rowsPerCut = 10_000
const tenantsPerRead = 100
const denialsPerRound = 500

/** Keeps the audit logs in order now and every `everyMs` until `stop` aborts; resolves then. Failures are logged. */
export async function keepAudits(ports: AuditPorts, everyMs: number, stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    try {
      await flushDenials(ports)
      await cutAudits(ports, stop)
    } catch (error) {
      if (!stop.aborted) ports.log.error('audit.keep', { error: describeError(error) })
    }
    await ports.clock.sleep(everyMs, stop)
  }
}

/**
 * Cuts from every tenant's log what is older than its retention, unless a legal hold keeps it: verifies what is to go,
 * stores a signed checkpoint of its last entry, and deletes, in one transaction with an entry about it. A log that is
 * broken there is left as it is, as evidence, and named in the process's log. Safe in many processes. Answers how many
 * entries went.
 */
export async function cutAudits(ports: AuditPorts, signal?: AbortSignal): Promise<number> {
  let rows = 0
  for (let after = ''; ;) {
    const due = await withLedger(ports.db, 'worker', (tx) =>
      rowsOf<{ tenantId: string; seq: string }>(
        tx,
        sql`select o_tenant as "tenantId", o_seq::text as seq from app.audit_due(${after}, ${tenantsPerRead}, ${rowsPerCut})`,
      ),
    )
    for (const { tenantId, seq } of due) {
      signal?.throwIfAborted()
      rows += await cut(ports, tenantId, Number(seq), signal)
    }
    const last = due.at(-1)
    if (!last) return rows
    after = last.tenantId
  }
}

async function cut(ports: AuditPorts, tenantId: string, to: number, signal?: AbortSignal): Promise<number> {
  const { db, signing, clock, log } = ports
  const keys = checkpointKeys(signing)
  const digest = (texts: string[]): string[] => texts.map((text) => hash('sha256', text))
  // A signature under a log that somebody changed would make the change good.
  const verified = await verifyAudit(db, { tenantId, side: 'worker', to, keys, digest, ...(signal ? { signal } : {}) })
  if (verified.broken) {
    log.error('audit.broken', { tenantId, ...verified.broken })
    return 0
  }
  const { seq, hash: last } = verified.last
  // To the microsecond, as the database gives it back.
  const cutAt = clock.now().toISOString().replace('Z', '000Z')
  const { keyId, signature } = await signCheckpoint(signing, { tenantId, seq, hash: last, cutAt })
  const [row] = await withTenant(db, { tenantId, side: 'worker' }, (tx) =>
    rowsOf<{ rows: number }>(
      tx,
      sql`select app.cut_audit(${seq}::bigint, ${last}, ${cutAt}::timestamptz, ${keyId}, ${signature})::int as rows`,
    ),
  )
  return row?.rows ?? 0
}

async function flushDenials({ db }: AuditPorts): Promise<void> {
  await withLedger(db, 'worker', (tx) => tx.execute(sql`select app.flush_denials(${denialsPerRound})`))
}
