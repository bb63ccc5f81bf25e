import type { tenantUser } from '../../schema/tables/index.ts'
import { builder } from '../graphql/builder.ts'
import { TenantRole } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { Tenant } from '../tenants/graphql.ts'
import { listUsers, rolesOf } from './list-users.ts'

/** A person of a tenant. */
export const User = builder.objectRef<typeof tenantUser.$inferSelect>('User').implement({
  description: 'A person of a tenant.',
  authScopes: { scope: ['tenant:read', 'platform:admin'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `usr_`.' }),
    email: t.exposeString('email', { description: 'Address, unique in the tenant.' }),
    username: t.exposeString('username', { description: 'Name at sign-in.' }),
    firstName: t.exposeString('firstName', { description: 'Given name; may be empty.' }),
    lastName: t.exposeString('lastName', { description: 'Family name; may be empty.' }),
    status: t.exposeString('status', { description: 'invited, active or deactivated.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was made.', resolve: (row) => row.createdAt }),
    roles: t.field({
      type: [TenantRole],
      description: 'Its roles.',
      resolve: (row, _args, context) => rolesOf(context, row),
    }),
  }),
})

const UserConnection = builder.connectionObject(
  { type: User, name: 'UserConnection', description: 'A page of people.' },
  { name: 'UserEdge', description: 'A person and its place in the list.' },
)

builder.objectField(Tenant, 'users', (t) =>
  t.field({
    type: UserConnection,
    description: 'People of the tenant, in the order in which they were made.',
    args: pageArgs,
    resolve: (row, args, context) => listUsers(context, row.id, args),
  }),
)
