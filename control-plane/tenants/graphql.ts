import type { tenantLimit, tenantQueue, tenant } from '../../schema/tables/index.ts'
import type { Auth } from '../context.ts'
import { authOf } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { QueueState, QueueType, ScopeEnum, TenantStatus } from '../graphql/enums.ts'
import { readLimits, readQueues, readTenant } from './read-tenant.ts'

/** A tenant's profile. */
export const Tenant = builder.objectRef<typeof tenant.$inferSelect>('Tenant').implement({
  description: 'A customer of the platform: profile, plan, life and configuration.',
  authScopes: { scope: ['tenant:read', 'platform:admin'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Chosen at onboarding, as `guru_232342`.' }),
    name: t.exposeString('name', { description: 'Name for people.' }),
    companyName: t.exposeString('companyName', { description: 'The company; `{company_name}` in pipelines.' }),
    adminEmail: t.exposeString('adminEmail', { description: 'Its administrator; `{admin_email}` in pipelines.' }),
    plan: t.exposeString('plan', { description: 'Name of its plan.' }),
    status: t.field({ type: TenantStatus, description: 'Where in its life it is.', resolve: ({ status }) => status }),
    configuration: t.field({
      type: 'JSON',
      description: 'Its five sections: database, sftp, fileProcessing, userManagement, monitoring. It holds no secret.',
      resolve: ({ configuration }) => configuration,
    }),
    provisioned: t.exposeStringList('provisioned', { description: 'Steps of onboarding that are done, in order.' }),
    dismantled: t.exposeStringList('dismantled', { description: 'Steps of offboarding that are done, in order.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When onboarding began.', resolve: (row) => row.createdAt }),
    activatedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When onboarding ended.',
      resolve: (row) => row.activatedAt,
    }),
    limits: t.field({
      type: TenantLimits,
      nullable: true,
      description: 'What its plan allows.',
      resolve: (row, _args, context) => readLimits(context, row.id),
    }),
    queues: t.field({
      type: [TenantQueue],
      description: 'Its logical queues.',
      resolve: (row, _args, context) => readQueues(context, row.id),
    }),
  }),
})

const TenantLimits = builder.objectRef<typeof tenantLimit.$inferSelect>('TenantLimits').implement({
  description: 'What a plan allows.',
  fields: (t) => ({
    maxRunningTotal: t.exposeInt('maxRunningTotal', { description: 'Steps that run at once.' }),
    maxQueuedRuns: t.exposeInt('maxQueuedRuns', { description: 'Runs that may be unfinished at once.' }),
    memoryBytes: t.field({ type: 'BigInt', description: 'Memory of its process.', resolve: (row) => row.memoryBytes }),
    threads: t.exposeInt('threads', { description: 'Threads of its process.' }),
    diskBytes: t.field({ type: 'BigInt', description: 'Disk that it may fill.', resolve: (row) => row.diskBytes }),
  }),
})

const TenantQueue = builder.objectRef<typeof tenantQueue.$inferSelect>('TenantQueue').implement({
  description: 'A logical queue of a tenant.',
  fields: (t) => ({
    queue: t.field({ type: QueueType, description: 'Which queue.', resolve: (row) => row.queue }),
    desired: t.field({ type: QueueState, description: 'What is wanted of it.', resolve: (row) => row.desired }),
    running: t.exposeInt('running', { description: 'Steps that run now.' }),
    maxRunning: t.exposeInt('maxRunning', { description: 'Steps that may run at once.' }),
  }),
})

const Viewer = builder.objectRef<Auth>('Viewer').implement({
  description: 'Whom this key stands for.',
  fields: (t) => ({
    keyId: t.exposeID('keyId', { description: 'The key; its secret is never shown.' }),
    tenantId: t.exposeID('tenantId', { description: 'The tenant that the key belongs to.' }),
    actor: t.exposeString('actor', { description: 'The name under which the audit log knows what is done with it.' }),
    scopes: t.field({ type: [ScopeEnum], description: 'What it may do.', resolve: ({ scopes }) => [...scopes] }),
    tenant: t.field({
      type: Tenant,
      description: 'The tenant that the key belongs to.',
      resolve: (auth, _args, context) => readTenant(context, auth.tenantId),
    }),
  }),
})

builder.queryFields((t) => ({
  viewer: t.field({
    type: Viewer,
    description: 'Whom this key stands for.',
    authScopes: { authenticated: true },
    resolve: (_root, _args, context) => authOf(context),
  }),
  tenant: t.field({
    type: Tenant,
    nullable: true,
    description: 'A tenant: that of the key, or any for a key of the platform.',
    authScopes: { scope: ['tenant:read', 'platform:admin'] },
    args: { id: t.arg.id({ description: 'Default: the tenant of the key.' }) },
    resolve: (_root, { id }, context) => readTenant(context, id ?? authOf(context).tenantId),
  }),
}))
