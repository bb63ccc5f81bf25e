import { scopes } from '../../schema/roles.ts'
import type { apiKey } from '../../schema/tables/index.ts'
import { builder } from '../graphql/builder.ts'
import { ScopeEnum } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { answer, type Refusal, UserError } from '../graphql/user-errors.ts'
import { Tenant } from '../tenants/graphql.ts'
import { createApiKey } from './create-api-key.ts'
import { listApiKeys } from './list-api-keys.ts'
import { revokeApiKey } from './revoke-api-key.ts'

/** A key without its secret. */
export type ApiKeyRow = Omit<typeof apiKey.$inferSelect, 'secretHash'>

/** A key for programs. */
export const ApiKey = builder.objectRef<ApiKeyRow>('ApiKey').implement({
  description: 'A key for programs. Its secret is shown once, when it is made.',
  authScopes: { scope: ['tenant:read', 'platform:admin'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `key_`.' }),
    name: t.exposeString('name', { description: 'What it is for.' }),
    scopes: t.field({
      type: [ScopeEnum],
      description: 'What it may do.',
      resolve: (row) => scopes.filter((scope) => row.scopes.includes(scope)),
    }),
    createdBy: t.exposeString('createdBy', { description: 'Who made it.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was made.', resolve: (row) => row.createdAt }),
    expiresAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'From when on it is refused.',
      resolve: (row) => row.expiresAt,
    }),
    revokedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it was revoked.',
      resolve: (row) => row.revokedAt,
    }),
    lastUsedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it was last used, to the minute.',
      resolve: (row) => row.lastUsedAt,
    }),
  }),
})

const ApiKeyConnection = builder.connectionObject(
  { type: ApiKey, name: 'ApiKeyConnection', description: 'A page of keys.' },
  { name: 'ApiKeyEdge', description: 'A key and its place in the list.' },
)

builder.objectField(Tenant, 'apiKeys', (t) =>
  t.field({
    type: ApiKeyConnection,
    description: 'Keys of the tenant, in the order in which they were made, revoked ones included.',
    args: pageArgs,
    resolve: (row, args, context) => listApiKeys(context, row.id, args),
  }),
)

const CreateApiKeyInput = builder.inputType('CreateApiKeyInput', {
  description: 'A key for a tenant.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Whose key it will be; it must be active.' }),
    name: t.string({ required: true, description: 'What it is for, 1 to 100 characters.' }),
    scopes: t.field({ type: [ScopeEnum], description: 'What it may do; default: all that a tenant’s key can do.' }),
    expiresAt: t.field({ type: 'DateTime', description: 'From when on it is refused; default: never.' }),
  }),
})

const CreateApiKeyPayload = builder
  .objectRef<{ apiKey?: ApiKeyRow; token?: string; errors: Refusal[] }>('CreateApiKeyPayload')
  .implement({
    description: 'The new key, or why there is none.',
    fields: (t) => ({
      apiKey: t.field({ type: ApiKey, nullable: true, description: 'The key.', resolve: (row) => row.apiKey }),
      token: t.string({
        nullable: true,
        description: 'The key as programs send it. It is shown this once and kept nowhere.',
        resolve: (row) => row.token,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

const RevokeApiKeyInput = builder.inputType('RevokeApiKeyInput', {
  description: 'A key to revoke.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Whose key it is.' }),
    id: t.id({ required: true, description: 'The key, `key_…`.' }),
  }),
})

const RevokeApiKeyPayload = builder
  .objectRef<{ apiKey?: ApiKeyRow; errors: Refusal[] }>('RevokeApiKeyPayload')
  .implement({
    description: 'The revoked key, or why it is not.',
    fields: (t) => ({
      apiKey: t.field({ type: ApiKey, nullable: true, description: 'The key.', resolve: (row) => row.apiKey }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  createApiKey: t.field({
    type: CreateApiKeyPayload,
    description: 'Makes another key for an active tenant. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: CreateApiKeyInput, required: true, description: 'The key.' }) },
    resolve: (_root, { input }, context) => answer(() => createApiKey(context, input)),
  }),
  revokeApiKey: t.field({
    type: RevokeApiKeyPayload,
    description: 'Refuses a key from now on; a repeat changes nothing. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: RevokeApiKeyInput, required: true, description: 'The key.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => ({ apiKey: await revokeApiKey(context, input.tenantId, input.id) })),
  }),
}))
