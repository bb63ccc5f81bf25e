import { sql } from 'drizzle-orm'
import { type Break, type ChainRow, type Digest, type Link, origin, verifyRows } from './audit-chain.ts'
import { type CheckpointKeys, isSigned, readCheckpoint } from './audit-checkpoint.ts'
import { type Db, rowsOf, type Side, type Tx, withTenant } from './db/db.ts'

/** What to verify, and against what. */
export type VerifyOptions = {
  tenantId: string
  side: Side
  /** Where to go on: a link that was good before, or a witness. Default: the beginning. */
  after?: Link | undefined
  /** Links that somebody kept; the log must still hold each of them that was not cut. */
  witnesses?: readonly Link[]
  /** Who signs checkpoints. Without it a log that was cut counts as forged. */
  keys?: CheckpointKeys | undefined
  /** Verifies up to this number only; default: the head. */
  to?: number
  /** Stops after about so many rows; default: at the head. */
  rowsMax?: number
  digest?: Digest
  signal?: AbortSignal
}

/** How far the log is what was written. */
export type Verified = {
  rows: number
  /** The last number that was cut; 0 for a log that has its beginning. */
  cut: number
  /** The last link that is good. */
  last: Link
  broken: Break | undefined
  /** Whether the head was reached, or a break; otherwise go on after `last`. */
  isWhole: boolean
}

/** The columns of a `ChainRow` but `personal` from `app.audit_event e`; `seq` comes as text. */
export const chainColumns = sql.raw(
  `e.seq::text as seq, e.id, to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, e.actor, e.action,
   e.target, e.request_id as "requestId", e.details::text as details, e.prev_hash as "prevHash", e.hash, e.subject`,
)

// A page is one statement and some megabytes; between pages others get their turn on a single connection.
const rowsPerPage = 5_000

/**
 * Verifies a tenant's audit log from its checkpoint, or its beginning, up to the head that it has now, page by page; what
 * is added meanwhile is left for the next time. Trusts nothing that the database computes: rows are hashed here.
 */
export async function verifyAudit(db: Db, options: VerifyOptions): Promise<Verified> {
  const { tenantId, side } = options
  for (;;) {
    const verified = await verifyOnce(db, options)
    if (!verified.broken) return verified
    // A cut meanwhile takes good rows away and leaves a newer checkpoint: then everything is looked at again.
    const newest = await withTenant(db, { tenantId, side }, (tx) => readCheckpoint(tx, tenantId))
    if ((newest?.seq ?? 0) <= verified.cut) return verified
  }
}

async function verifyOnce(db: Db, options: VerifyOptions): Promise<Verified> {
  const { tenantId, side, after = origin, witnesses = [], rowsMax = Infinity, digest, signal, keys } = options
  const read = <T>(work: (tx: Tx) => Promise<T>): Promise<T> => withTenant(db, { tenantId, side }, work)
  const { head, checkpoint } = await read(async (tx) => ({
    head: await auditHead(tx, tenantId),
    checkpoint: await readCheckpoint(tx, tenantId),
  }))
  const start: Link = checkpoint ?? origin
  const cut = start.seq
  let last: Link = after.seq > cut ? after : { seq: start.seq, hash: start.hash }
  let rows = 0
  const broken = (seq: number, reason: Break['reason']): Verified => ({
    rows,
    cut,
    last,
    broken: { seq, reason },
    isWhole: true,
  })

  if (checkpoint && !(keys && (await isSigned(keys, checkpoint)))) return broken(cut, 'CHECKPOINT_FORGED')
  const kept = [...witnesses, after]
  const lost = await read((tx) => lostWitness(tx, tenantId, kept))
  // What follows a place that is not there says nothing.
  if (lost !== undefined && lost === after.seq) return broken(lost, 'WITNESS_MISMATCH')
  const end = Math.min(head.seq, options.to ?? Infinity)
  while (last.seq < end && rows < rowsMax) {
    signal?.throwIfAborted()
    const to = Math.min(last.seq + rowsPerPage, end)
    const page = await read((tx) => auditRows(tx, tenantId, last.seq, to))
    const verified = await verifyRows(tenantId, page, last, digest)
    rows += verified.last.seq - last.seq
    last = verified.last
    if (verified.broken) return broken(verified.broken.seq, verified.broken.reason)
    if (last.seq < to) return broken(last.seq + 1, 'MISSING')
  }
  if (lost !== undefined) return broken(lost, 'WITNESS_MISMATCH')
  if (last.seq < head.seq) return { rows, cut, last, broken: undefined, isWhole: false }
  if (last.hash !== head.hash) return broken(last.seq, 'HEAD_MISMATCH')
  const stray = await read((tx) => firstStray(tx, tenantId, cut))
  return stray === undefined ? { rows, cut, last, broken: undefined, isWhole: true } : broken(stray, 'STRAY')
}

/** The last link of the transaction's tenant. */
export async function auditHead(tx: Tx, tenantId: string): Promise<Link> {
  const [head] = await rowsOf<{ seq: string; hash: string }>(
    tx,
    sql`select seq::text as seq, hash from app.audit_head where tenant_id = ${tenantId}`,
  )
  return head ? { seq: Number(head.seq), hash: head.hash } : origin
}

// One row more than there are numbers: then some number is there twice.
async function auditRows(tx: Tx, tenantId: string, after: number, to: number): Promise<ChainRow[]> {
  const rows = await rowsOf<Omit<ChainRow, 'seq'> & { seq: string }>(
    tx,
    sql`select ${chainColumns}, e.personal from app.audit_event e
        where e.tenant_id = ${tenantId} and e.seq > ${after} and e.seq <= ${to} order by e.seq limit ${to - after + 1}`,
  )
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }))
}

/**
 * The least number at which the log is not what one of `kept` saw; undefined when it holds them all. Of what was cut only
 * the last entry can still be compared.
 */
export async function lostWitness(tx: Tx, tenantId: string, kept: readonly Link[]): Promise<number | undefined> {
  const above = kept.filter(({ seq }) => seq > 0)
  if (above.length === 0) return undefined
  const [row] = await rowsOf<{ seq: string | null }>(
    tx,
    sql`with start as (
          select coalesce(max(c.seq), 0) as seq, (array_agg(c.hash order by c.seq desc))[1] as hash
          from app.audit_checkpoint c where c.tenant_id = ${tenantId})
        select min(w.seq)::text as seq from jsonb_to_recordset(${JSON.stringify(above)}::jsonb) w (seq bigint, hash text), start s
        where w.seq >= s.seq and not (w.seq = s.seq and w.hash = s.hash)
          and not exists (select from app.audit_event e where e.tenant_id = ${tenantId} and e.seq = w.seq and e.hash = w.hash)`,
  )
  return row?.seq == null ? undefined : Number(row.seq)
}

async function firstStray(tx: Tx, tenantId: string, cut: number): Promise<number | undefined> {
  const [row] = await rowsOf<{ seq: string | null }>(
    tx,
    sql`select coalesce(seq, 0)::text as seq from app.audit_event where tenant_id = ${tenantId} and (seq <= ${cut} or seq is null
          or seq > coalesce((select h.seq from app.audit_head h where h.tenant_id = ${tenantId}), 0)) order by audit_event.seq limit 1`,
  )
  return row?.seq == null ? undefined : Number(row.seq)
}
