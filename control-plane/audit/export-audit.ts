import { sql } from 'drizzle-orm'
import { z } from 'zod'
import type { ChainRow, HashedRow } from '../../shared/audit-chain.ts'
import { audit } from '../../shared/audit.ts'
import { auditHead, chainColumns } from '../../shared/audit-verify.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context, inTenant } from '../context.ts'

const filterShape = z.strictObject({
  since: z.iso.datetime({ offset: true }).optional(),
  until: z.iso.datetime({ offset: true }).optional(),
  actor: z.string().max(200).optional(),
  action: z.string().max(200).optional(),
  after: z.coerce.number().int().min(0).optional(),
})
type Filter = z.output<typeof filterShape>

const rowsPerPage = 1_000

/** An entry as it leaves: of what is personal only the hash that the entry's own hash is made of. */
type ExportedRow = HashedRow & Pick<ChainRow, 'hash'>

/**
 * The audit log of the key's tenant as NDJSON, oldest first, up to what it holds now; the export is an entry of it, too.
 * `search` may narrow it: `since` (inclusive) and `until` (exclusive) as ISO times, `actor`, `action`, and `after`, a
 * number to go on from. `details` stand as they were hashed; of personal details
 * there is the hash alone. Calls `done` when the stream ends or the reader leaves.
 * Throws FORBIDDEN without `audit:read`, BAD_INPUT for another filter.
 */
export async function exportAudit(context: Context, search: URLSearchParams, done: () => void): Promise<Response> {
  const auth = authOf(context)
  if (!holds(auth, 'audit:read')) throw new AppError('FORBIDDEN', 'This key has not the scope that the export needs.')
  const parsed = filterShape.safeParse(Object.fromEntries(search))
  if (!parsed.success) throw new AppError('BAD_INPUT', `The filter is not right: ${z.prettifyError(parsed.error)}`)
  const filter = parsed.data
  const { tenantId, actor } = auth
  const { requestId } = context
  await inTenant(context, (tx) =>
    audit(tx, {
      tenantId,
      actor,
      action: 'audit.exported',
      target: actor.replace(/^\w+:/, ''),
      requestId,
      details: filter,
    }),
  )
  const { seq: to } = await inTenant(context, (tx) => auditHead(tx, tenantId))
  let last = filter.after ?? 0
  const encoder = new TextEncoder()
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const rows = await readPage(context, filter, last, to)
          last = rows.at(-1)?.seq ?? to
          if (rows.length > 0) controller.enqueue(encoder.encode(rows.map(lineOf).join('')))
          if (rows.length === rowsPerPage) return
          controller.close()
          done()
        } catch (error) {
          done()
          controller.error(error)
        }
      },
      cancel: done,
    },
    { highWaterMark: 0 },
  )
  return new Response(body, { headers: { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' } })
}

async function readPage(context: Context, filter: Filter, after: number, to: number): Promise<ExportedRow[]> {
  const { since = null, until = null, actor = null, action = null } = filter
  const rows = await inTenant(context, (tx, { tenantId }) =>
    rowsOf<Omit<ExportedRow, 'seq'> & { seq: string }>(
      tx,
      sql`select ${chainColumns}, encode(sha256(convert_to(e.personal, 'UTF8')), 'hex') as "personalHash"
          from app.audit_event e where e.tenant_id = ${tenantId} and e.seq > ${after} and e.seq <= ${to}
            and (${since}::timestamptz is null or e.at >= ${since}) and (${until}::timestamptz is null or e.at < ${until})
            and (${actor}::text is null or e.actor = ${actor}) and (${action}::text is null or e.action = ${action})
          order by e.seq limit ${rowsPerPage}`,
    ),
  )
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }))
}

// The details are JSON already: parsed and printed again they would not be the text that was hashed.
function lineOf(row: ExportedRow): string {
  const fields = Object.entries(row).map(([name, value]) =>
    name === 'details' ? `"details":${String(value)}` : `${JSON.stringify(name)}:${JSON.stringify(value)}`,
  )
  return `{${fields.join(',')}}\n`
}
