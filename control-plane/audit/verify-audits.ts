import { eq } from 'drizzle-orm'
import { tenant } from '../../schema/tables/index.ts'
import { type Witness, witnessShape } from '../../shared/audit-anchor.ts'
import { type Link, origin } from '../../shared/audit-chain.ts'
import { checkpointKeys } from '../../shared/audit-checkpoint.ts'
import { compareWitnesses, tenantIds } from '../../shared/audit-sweep.ts'
import { verifyAudit } from '../../shared/audit-verify.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { type Context, inTenant } from '../context.ts'
import { type Head, type Verification, verificationOf } from './verify-audit-log.ts'

/** A line per tenant that was looked at, in the order of their ids, and where to go on; nothing when all were. */
export type Sweep = { lines: Verification[]; next: Head | null }

// Some seconds of work and a page that is easy to read; whoever has more goes on after it.
const rowsMax = 200_000
const linesMax = 100
const witnessesMax = 1_000

/**
 * Verifies the logs of all tenants, those of the page that begins after `after`, and what `witnesses` saw of them. A log
 * that is longer than one request verifies ends the page with `isWhole: false`, and the next goes on inside it. A tenant
 * that only a witness knows gets its line on the last page. The platform's own log says that it was done; no entry of any
 * tenant is shown. Throws BAD_INPUT for what cannot be a head.
 */
export async function verifyAudits(
  context: Context,
  after: Head | undefined,
  witnesses: readonly Head[],
): Promise<Sweep> {
  if (witnesses.length > witnessesMax) throw new AppError('TOO_LARGE', `At most ${witnessesMax} witnesses at once.`)
  const kept = witnesses.map(checked)
  const sweep = await walk(context, after && checked(after), kept)
  await inTenant(context, (tx, { tenantId, actor }) =>
    audit(tx, {
      tenantId,
      actor,
      action: 'audit.verified',
      target: sweep.lines.at(-1)?.last.tenantId ?? tenantId,
      requestId: context.requestId,
      details: { tenants: sweep.lines.length, broken: sweep.lines.filter(({ ok }) => !ok).map(brokenAt) },
    }),
  )
  return sweep
}

async function walk(context: Context, after: Witness | undefined, witnesses: Witness[]): Promise<Sweep> {
  const lines: Verification[] = []
  const known = new Set<string>()
  let left = rowsMax
  const look = async (tenantId: string, from: Link): Promise<Verification> => {
    const line = await verifyOne(context, tenantId, from, left, witnesses)
    known.add(tenantId)
    lines.push(line)
    left -= line.rows
    return line
  }
  const isFull = (): boolean => left <= 0 || lines.length >= linesMax
  // A place within a log that is not done yet: the walk goes on there before it comes to the next tenant.
  if (after && after.seq > 0) {
    const line = await look(after.tenantId, after)
    if (!line.isWhole) return { lines, next: line.last }
  }
  for await (const tenantId of tenantIds(context.ports.db, 'api', after?.tenantId)) {
    if (isFull()) return { lines, next: { ...origin, tenantId: lines.at(-1)?.last.tenantId ?? '' } }
    const line = await look(tenantId, origin)
    if (!line.isWhole) return { lines, next: line.last }
  }
  for (const { tenantId } of witnesses)
    if (!known.has(tenantId) && !(await exists(context, tenantId))) await look(tenantId, origin)
  return { lines, next: null }
}

async function verifyOne(
  { ports, signal }: Context,
  tenantId: string,
  after: Link,
  rows: number,
  witnesses: Witness[],
): Promise<Verification> {
  const own = witnesses.filter((witness) => witness.tenantId === tenantId)
  const keys = checkpointKeys(ports.signing)
  const found = await verifyAudit(ports.db, { tenantId, side: 'api', after, rowsMax: rows, keys, signal })
  const lost = (await compareWitnesses(ports.db, 'api', own)).get(tenantId)?.lost
  return verificationOf(
    tenantId,
    found.broken || lost === undefined
      ? found
      : { ...found, isWhole: true, broken: { seq: lost, reason: 'WITNESS_MISMATCH' } },
  )
}

async function exists({ ports }: Context, tenantId: string): Promise<boolean> {
  const rows = await withTenant(ports.db, { tenantId, side: 'api' }, (tx) =>
    tx.select({ id: tenant.id }).from(tenant).where(eq(tenant.id, tenantId)),
  )
  return rows.length > 0
}

function checked(given: Head): Witness {
  const parsed = witnessShape.safeParse(given)
  if (parsed.success) return parsed.data
  throw new AppError('BAD_INPUT', 'This is not a head as auditHead gives it.')
}

const brokenAt = ({ last, firstBrokenSeq, reason }: Verification): object => ({
  tenantId: last.tenantId,
  seq: firstBrokenSeq,
  reason,
})
