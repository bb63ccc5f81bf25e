import { openPersonal, type SubjectKey, subjectKey } from '../../shared/audit-personal.ts'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context, inTenant } from '../context.ts'
import { loaderOf } from '../graphql/batch.ts'
import type { AuditRow } from './list-audit.ts'

/**
 * The personal details of an entry, for a key of the tenant itself that may read its people. Null without any, for
 * another reader, the platform's own included, and once the subject was erased or the tenant's keys destroyed.
 */
export async function readPersonal(context: Context, row: AuditRow): Promise<Record<string, string> | null> {
  const auth = authOf(context)
  const { tenantId, subject, personal, action, target } = row
  if (personal === null || subject === null || tenantId !== auth.tenantId || !holds(auth, 'users:read')) return null
  const key = await keysOf(context)(subject)
  return key ? openPersonal(key, { tenantId, subject, action, target }, personal) : null
}

// The keys of a page are read in one transaction.
const keysOf = (context: Context) =>
  loaderOf<SubjectKey | undefined>(
    context,
    'keys of audit subjects',
    (subjects) =>
      inTenant(context, async (tx, { tenantId }) => {
        const keys = new Map<string, SubjectKey>()
        for (const subject of subjects) {
          const key = await subjectKey(tx, context.ports.secrets, tenantId, subject).catch(ifDestroyed)
          if (key !== undefined && key !== 'erased') keys.set(subject, key)
        }
        return keys
      }),
    () => undefined,
  )

function ifDestroyed(error: unknown): undefined {
  if (error instanceof AppError && error.code === 'SECRET_UNREADABLE') return undefined
  throw error
}
