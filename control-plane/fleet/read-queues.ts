import type { Tx } from '../../shared/db/db.ts'
import { queueFailures, type QueueFailure, type QueueStanding, queueStandings } from '../../shared/runs/fleet.ts'
import { lookInto } from '../audit/look-into.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context, inTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import type { Position } from '../graphql/cursor.ts'
import { type Page, type PageArgs, readPage } from '../graphql/page.ts'
import { platformTenantId } from '../../schema/roles.ts'

/** Whose queues the platform's readers may see: anybody's. */
export const platformReaders = ['platform:admin', 'platform:read'] as const

const failuresPerQueue = 10
// More than a tenant has queue types.
const queuesPerTenant = 100

/**
 * Queues by tenant and name: those of the key's tenant; for the platform those of the named tenant, or of all that have
 * not left. Throws NOT_FOUND for another tenant, and alike for one that there is not.
 */
export function listQueues(context: Context, args: PageArgs, given?: string | null): Promise<Page<QueueStanding>> {
  const tenantId = queuesOwner(context, given)
  const read = (limit: number, after: Position | undefined) => (tx: Tx) =>
    queueStandings(tx, { tenantId, limit, after: after && { tenantId: after[0], queue: after[1] } })
  return readPage(context, args, {
    list: ['queues', tenantId],
    position: (row) => [row.tenantId, row.queue],
    read: (limit, after) =>
      tenantId === null
        ? inTenant(context, read(limit, after))
        : lookInto(context, tenantId, { what: 'queues', scopes: platformReaders }, read(limit, after)),
  })
}

/** How the queues of a tenant stand after a change of them, those of `only`. */
export async function queuesOf(context: Context, tenantId: string, only: readonly string[]): Promise<QueueStanding[]> {
  const rows = await inTenant(context, (tx) => queueStandings(tx, { tenantId, limit: queuesPerTenant }))
  return rows.filter(({ queue }) => only.includes(queue))
}

/** The last failures in a queue, newest first, at most 10; those of all queues of an answer are read together. */
export function failuresOf(context: Context, row: QueueStanding): Promise<QueueFailure[]> {
  const { actor } = authOf(context)
  const { requestId } = context
  // A tenant is told once per request that the platform looked.
  const noted = new Set<string>()
  const read = async (keys: string[]): Promise<Map<string, QueueFailure[]>> => {
    const queues = keys.map((key) => {
      const [tenantId = '', queue = ''] = key.split('\n')
      return { tenantId, queue }
    })
    const note = [...new Set(queues.map(({ tenantId }) => tenantId))].filter((tenantId) => !noted.has(tenantId))
    const found = await inTenant(context, (tx) =>
      queueFailures(tx, { queues, limit: failuresPerQueue, note, actor, requestId }),
    )
    for (const tenantId of note) noted.add(tenantId)
    return Map.groupBy(found, keyOf)
  }
  return loaderOf(context, 'failures of queues', read, () => [])(keyOf(row))
}

const keyOf = ({ tenantId, queue }: { tenantId: string; queue: string }): string => `${tenantId}\n${queue}`

/** The tenant whose queues are asked for; null for all. */
function queuesOwner(context: Context, given: string | null | undefined): string | null {
  const auth = authOf(context)
  if (given) return given
  return auth.tenantId === platformTenantId && holds(auth, platformReaders) ? null : auth.tenantId
}
