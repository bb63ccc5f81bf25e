import { sql } from 'drizzle-orm'
import { GraphQLError, Kind } from 'graphql'
import { z } from 'zod'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Context } from '../context.ts'

// What an AppError tells of a key, session or account that was known and not accepted.
const refusedBearer = z.object({ tenantId: z.string(), actor: z.string() })

type Denial = {
  tenantId: string
  actor: string
  action: 'access.denied' | 'access.foreign' | 'key.refused' | 'session.refused'
}

/**
 * Notes after the answer that somebody was refused, in the log of the tenant whose key or person it was: a missing right, another
 * tenant, a known key or account that is wrong, revoked or at its end. The log gets an entry per actor and action at most once a
 * minute, with counts by field; many errors of one request for one field count once. Other errors are not noted, and a
 * note that fails changes nothing.
 */
export function noteDenials(context: Context, errors: readonly unknown[]): void {
  const noted = new Set<string>()
  for (const error of errors) {
    const denial = denialOf(context, error)
    if (!denial) continue
    const { tenantId, actor, action } = denial
    const attempt = fieldOf(error)
    if (noted.has(`${action} ${attempt}`)) continue
    noted.add(`${action} ${attempt}`)
    context.later(async () => {
      await withTenant(context.ports.db, { tenantId, side: 'api' }, (tx) =>
        tx.execute(sql`select app.note_denial(${actor}, ${action}, ${attempt}, ${context.requestId})`),
      )
    })
  }
}

function denialOf({ auth }: Context, error: unknown): Denial | undefined {
  const known = appErrorOf(error)
  if (known?.code === 'UNAUTHENTICATED') {
    const { tenantId, actor } = refusedBearer.safeParse(known.context).data ?? auth ?? {}
    if (tenantId === undefined || actor === undefined) return undefined
    return { tenantId, actor, action: actor.startsWith('key:') ? 'key.refused' : 'session.refused' }
  }
  if (!auth) return undefined
  const { tenantId, actor } = auth
  if (known?.code === 'FORBIDDEN') return { tenantId, actor, action: 'access.denied' }
  if (known?.context['isForeign'] === true) return { tenantId, actor, action: 'access.foreign' }
  return undefined
}

function appErrorOf(error: unknown): AppError | undefined {
  if (error instanceof AppError) return error
  return error instanceof GraphQLError && error.originalError ? appErrorOf(error.originalError) : undefined
}

// The name in the schema: the path of the error holds aliases, which the caller chose.
function fieldOf(error: unknown): string {
  const node = error instanceof GraphQLError ? error.nodes?.[0] : undefined
  return node?.kind === Kind.FIELD ? node.name.value : 'request'
}
