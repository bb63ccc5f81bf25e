import { builder } from '../graphql/builder.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { Tenant } from '../tenants/graphql.ts'
import { resumeTenant, suspendTenant, type TenantRow } from '../tenants/suspend-tenant.ts'
import { type Exported, type Offboarded, offboardTenant } from './offboard-tenant.ts'

const TenantLifeInput = builder.inputType('TenantLifeInput', {
  description: 'A tenant to halt or to resume.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Which tenant.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const OffboardTenantInput = builder.inputType('OffboardTenantInput', {
  description: 'A tenant to take down.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Which tenant.' }),
    export: t.boolean({
      description:
        'Have its tables written as Parquet first: delivered to its SFTP server if it has one, and kept for 30 days by the worker. Default: false.',
    }),
    idempotencyKey: t.string(keyField),
  }),
})

const TenantExport = builder.objectRef<Exported>('TenantExport').implement({
  description: 'What a tenant that leaves was given along.',
  fields: (t) => ({
    tables: t.exposeInt('tables', { description: 'Tables, one Parquet file each.' }),
    rows: t.field({ type: 'BigInt', description: 'Rows of all, every version counted.', resolve: (row) => row.rows }),
    bytes: t.field({ type: 'BigInt', description: 'Bytes of the files.', resolve: (row) => row.bytes }),
    isDelivered: t.exposeBoolean('isDelivered', { description: 'Whether it stands on the tenant’s own SFTP server.' }),
  }),
})

const OffboardTenantPayload = builder
  .objectRef<Partial<Offboarded> & { errors: Refusal[] }>('OffboardTenantPayload')
  .implement({
    description: 'The tenant as it stands now, and what is not done yet.',
    fields: (t) => ({
      tenant: t.field({
        type: Tenant,
        nullable: true,
        description: 'The tenant as it stands.',
        resolve: (row) => row.tenant,
      }),
      exported: t.field({
        type: TenantExport,
        nullable: true,
        description: 'What it was given along, when that was asked for.',
        resolve: (row) => row.exported,
      }),
      errors: t.field({
        type: [UserError],
        description: 'Why it was refused or is not done; it goes on where it stopped when it is repeated.',
        resolve: ({ errors }) => errors,
      }),
    }),
  })

const TenantLifePayload = builder.objectRef<{ tenant?: TenantRow; errors: Refusal[] }>('TenantLifePayload').implement({
  description: 'The tenant as it stands now, or why it was refused.',
  fields: (t) => ({
    tenant: t.field({
      type: Tenant,
      nullable: true,
      description: 'The tenant as it stands.',
      resolve: (row) => row.tenant,
    }),
    errors: t.field({
      type: [UserError],
      description: 'Why it was refused.',
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
      answerOnce(context, 'suspendTenant', input, async (context) => ({
        tenant: await suspendTenant(context, input.tenantId),
      })),
  }),
  resumeTenant: t.field({
    type: TenantLifePayload,
    description: 'Lets a suspended tenant work again. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg(tenantArg) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'resumeTenant', input, async (context) => ({
        tenant: await resumeTenant(context, input.tenantId),
      })),
  }),
  offboardTenant: t.field({
    type: OffboardTenantPayload,
    description:
      'Takes a tenant down for good: revokes its keys, cancels its runs, removes lake and folders, destroys its data keys, erases people and mail. Safe to repeat: it goes on where it stopped. The id is never used again. For the platform.',
    extensions: { waits: 3 },
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: OffboardTenantInput, required: true, description: 'The tenant.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(
        context,
        'offboardTenant',
        input,
        (context) => offboardTenant(context, input.tenantId, input.export ?? false),
        { waits: 3 },
      ),
  }),
}))
