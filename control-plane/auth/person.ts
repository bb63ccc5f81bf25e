import { sql } from 'drizzle-orm'
import { type Role, type Scope, scopes, scopesOf } from '../../schema/roles.ts'
import type { TenantState } from '../../schema/states.ts'
import { rowsOf, type Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'

/** A person as the database has it now. */
export type Person = { status: string; tenantStatus: TenantState; roles: Role[] }

/** A person of the transaction's tenant; undefined when there is none. `share` keeps it as it is until the transaction ends. */
export async function readPerson(
  tx: Tx,
  tenantId: string,
  userId: string,
  hold?: 'share',
): Promise<Person | undefined> {
  const [found] = await rowsOf<Person>(
    tx,
    sql`select u.status, t.status as "tenantStatus",
          array(select r.role from app.user_role r where r.tenant_id = u.tenant_id and r.user_id = u.id order by r.role) as roles
        from app.tenant_user u join app.tenant t on t.id = u.tenant_id
        where u.tenant_id = ${tenantId} and u.id = ${userId} ${hold ? sql`for share of u` : sql``}`,
  )
  return found
}

/** Whether a person may sign in and act: it is active, and its tenant is active or suspended. */
export const mayAct = (person: Person): boolean =>
  person.status === 'active' && (person.tenantStatus === 'active' || person.tenantStatus === 'suspended')

/** What a person may do now; of a suspended tenant only what reads. */
export function rightsOf(person: Person): { scopes: ReadonlySet<Scope>; isSuspended: boolean } {
  return rightsIn(person.tenantStatus, scopesOf(person.roles))
}

/** What is left of these scopes in a tenant that may be suspended. */
export function rightsIn(
  tenantStatus: TenantState,
  held: readonly string[],
): { scopes: ReadonlySet<Scope>; isSuspended: boolean } {
  const isSuspended = tenantStatus === 'suspended'
  const isReading = (scope: Scope): boolean => scope.endsWith(':read')
  return {
    scopes: new Set(scopes.filter((scope) => held.includes(scope) && (!isSuspended || isReading(scope)))),
    isSuspended,
  }
}

/** The one refusal of whatever a request carries. What is known of it goes to the audit log of its tenant. */
export const refused = (context: { tenantId?: string; actor?: string } = {}): AppError =>
  new AppError('UNAUTHENTICATED', 'This key or token is not valid.', { context })
