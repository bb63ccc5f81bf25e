import { breakReasons, type Link } from '../../shared/audit-chain.ts'
import { checkpointKeys } from '../../shared/audit-checkpoint.ts'
import { auditHead, type Verified, verifyAudit } from '../../shared/audit-verify.ts'
import { AppError } from '../../shared/errors.ts'
import { authOf, type Context, inTenant } from '../context.ts'

/** A link with whose log it is of. */
export type Head = Link & { tenantId: string }

/** What a verification found. */
export type Verification = {
  ok: boolean
  rows: number
  /** The last number that was cut. */
  cut: number
  isWhole: boolean
  last: Head
  firstBrokenSeq: number | null
  reason: keyof typeof breakReasons | null
}

// Some seconds of work; who has more rows goes on after the last.
const rowsMax = 200_000

/** Verifies the log of the key's tenant from `after` on. Throws BAD_INPUT for a link that cannot be one. */
export async function verifyAuditLog(context: Context, after: Link | undefined): Promise<Verification> {
  const { tenantId } = authOf(context)
  if (after && !(Number.isSafeInteger(after.seq) && after.seq >= 0 && /^[0-9a-f]{64}$/.test(after.hash)))
    throw new AppError('BAD_INPUT', 'after must be a link as auditHead gives it.')
  const { ports, signal } = context
  const keys = checkpointKeys(ports.signing)
  return verificationOf(tenantId, await verifyAudit(ports.db, { tenantId, side: 'api', after, rowsMax, keys, signal }))
}

/** What was found, as the API says it. */
export function verificationOf(tenantId: string, { rows, cut, isWhole, last, broken }: Verified): Verification {
  return {
    ok: broken === undefined,
    rows,
    cut,
    isWhole,
    last: { tenantId, ...last },
    firstBrokenSeq: broken?.seq ?? null,
    reason: broken?.reason ?? null,
  }
}

/** The last link of the log of the key's tenant. */
export function readAuditHead(context: Context): Promise<Head> {
  return inTenant(context, async (tx, { tenantId }) => ({ tenantId, ...(await auditHead(tx, tenantId)) }))
}
