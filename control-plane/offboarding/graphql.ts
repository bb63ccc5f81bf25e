import { builder } from '../graphql/builder.ts'
import { answer, type Refusal, UserError } from '../graphql/user-errors.ts'
import { Tenant } from '../tenants/graphql.ts'
import { resumeTenant, suspendTenant, type TenantRow } from '../tenants/suspend-tenant.ts'
import { offboardTenant } from './offboard-tenant.ts'

const TenantLifeInput = builder.inputType('TenantLifeInput', {
  description: 'A tenant to halt, to resume or to take down.',
  fields: (t) => ({ tenantId: t.id({ required: true, description: 'Which tenant.' }) }),
})

const TenantLifePayload = builder.objectRef<{ tenant?: TenantRow; errors: Refusal[] }>('TenantLifePayload').implement({
  description: 'The tenant as it stands now, and what was refused or is not done yet.',
  fields: (t) => ({
    tenant: t.field({
      type: Tenant,
      nullable: true,
      description: 'The tenant as it stands.',
      resolve: (row) => row.tenant,
    }),
    errors: t.field({
      type: [UserError],
      description: 'Why it was refused or is not done; offboarding goes on where it stopped when it is repeated.',
      resolve: ({ errors }) => errors,
    }),
  }),
})

const tenantArg = { type: TenantLifeInput, required: true, description: 'The tenant.' } as const

builder.mutationFields((t) => ({
  suspendTenant: t.field({
    type: TenantLifePayload,
    description:
      'Halts a tenant: no new run starts, running ones go on to their end, and its keys read but change nothing. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg(tenantArg) },
    resolve: (_root, { input }, context) =>
      answer(async () => ({ tenant: await suspendTenant(context, input.tenantId) })),
  }),
  resumeTenant: t.field({
    type: TenantLifePayload,
    description: 'Lets a suspended tenant work again. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg(tenantArg) },
    resolve: (_root, { input }, context) =>
      answer(async () => ({ tenant: await resumeTenant(context, input.tenantId) })),
  }),
  offboardTenant: t.field({
    type: TenantLifePayload,
    description:
      'Takes a tenant down for good: revokes its keys, cancels its runs, removes lake and folders, destroys its data keys. Safe to repeat: it goes on where it stopped. The id is never used again. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg(tenantArg) },
    resolve: (_root, { input }, context) => answer(() => offboardTenant(context, input.tenantId)),
  }),
}))
