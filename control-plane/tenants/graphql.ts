import type { tenantLimit, tenantQueue, tenant } from '../../schema/tables/index.ts'
import type { Auth } from '../context.ts'
import { authOf } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { QueueState, QueueType, ScopeEnum, TenantStatus } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { listTenants } from './list-tenants.ts'
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
    weight: t.exposeInt('weight', { description: 'Share of the workers’ time beside tenants that want it too.' }),
    maxQueuedRuns: t.exposeInt('maxQueuedRuns', { description: 'Runs that may be unfinished at once.' }),
    memoryBytes: t.field({ type: 'BigInt', description: 'Memory of its process.', resolve: (row) => row.memoryBytes }),
    threads: t.exposeInt('threads', { description: 'Threads of its process.' }),
    diskBytes: t.field({
      type: 'BigInt',
      description: 'Bytes that its lake and files may take.',
      resolve: (row) => row.diskBytes,
    }),
    runsPerMonth: t.field({ type: 'BigInt', description: 'Runs in a month.', resolve: (row) => row.runsPerMonth }),
    rowsPerMonth: t.field({
      type: 'BigInt',
      description: 'Rows loaded in a month.',
      resolve: (row) => row.rowsPerMonth,
    }),
    apiPointsPerMinute: t.exposeInt('apiPointsPerMinute', { description: 'What its requests may cost in a minute.' }),
    maxMembers: t.exposeInt('maxMembers', { description: 'People.' }),
    maxApiKeys: t.exposeInt('maxApiKeys', { description: 'Keys that are not revoked.' }),
    maxCredentials: t.exposeInt('maxCredentials', { description: 'Credentials.' }),
    maxPipelines: t.exposeInt('maxPipelines', { description: 'Saved pipelines.' }),
    beyondPlan: t.field({
      type: 'JSON',
      description: 'Numbers that the platform set in the place of those of the plan.',
      resolve: (row) => row.overrides,
    }),
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

const TenantConnection = builder.connectionObject(
  { type: Tenant, name: 'TenantConnection', description: 'A page of tenants.' },
  { name: 'TenantEdge', description: 'A tenant and its place in the list.' },
)

const TenantFilterInput = builder.inputType('TenantFilter', {
  description: 'Which tenants; what is absent does not filter.',
  fields: (t) => ({
    status: t.field({ type: TenantStatus, description: 'At this point of its life.' }),
    plan: t.string({ description: 'With the plan of this name.' }),
  }),
})

/** Who asks. */
export const Viewer = builder.objectRef<Auth>('Viewer').implement({
  description: 'Who is behind the request: a key, or a person.',
  fields: (t) => ({
    keyId: t.id({
      nullable: true,
      description: 'The key; its secret is never shown. Null for a person.',
      resolve: ({ bearer }) => (bearer.kind === 'key' ? bearer.keyId : null),
    }),
    tenantId: t.exposeID('tenantId', { description: 'The tenant that the key or person belongs to.' }),
    actor: t.exposeString('actor', { description: 'The name under which the audit log knows what is done with it.' }),
    scopes: t.field({ type: [ScopeEnum], description: 'What it may do.', resolve: ({ scopes }) => [...scopes] }),
    tenant: t.field({
      type: Tenant,
      description: 'The tenant that the key or person belongs to.',
      resolve: (auth, _args, context) => readTenant(context, auth.tenantId),
    }),
  }),
})

builder.queryFields((t) => ({
  viewer: t.field({
    type: Viewer,
    description: 'Who is behind the request.',
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
  tenants: t.field({
    type: TenantConnection,
    description: 'All tenants by id. For the platform.',
    authScopes: { scope: ['platform:admin', 'platform:read'] },
    args: { ...pageArgs, filter: t.arg({ type: TenantFilterInput, description: 'Which tenants; default: all.' }) },
    resolve: (_root, { filter, ...args }, context) => listTenants(context, args, filter ?? {}),
  }),
}))
