import { scopes } from '../../schema/roles.ts'
import type { apiKey } from '../../schema/tables/index.ts'
import { authOf } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { RoleEnum, ScopeEnum } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { Tenant } from '../tenants/graphql.ts'
import { createApiKey } from './create-api-key.ts'
import { listApiKeys } from './list-api-keys.ts'
import { revokeApiKey } from './revoke-api-key.ts'
import { overlapSecondsMax, rotateApiKey } from './rotate-api-key.ts'

/** A key without its secret. */
export type ApiKeyRow = Omit<typeof apiKey.$inferSelect, 'secretHash'>

/** A key for programs. */
export const ApiKey = builder.objectRef<ApiKeyRow>('ApiKey').implement({
  description: 'A key for programs. Its secret is shown once, when it is made.',
  authScopes: { scope: ['keys:read', 'keys:write', 'platform:admin'] },
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
    replacedBy: t.exposeID('replacedBy', { nullable: true, description: 'The key that was put in its place.' }),
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
    authScopes: { scope: ['keys:read', 'platform:admin'] },
    args: pageArgs,
    resolve: (row, args, context) => listApiKeys(context, row.id, args),
  }),
)

builder.queryFields((t) => ({
  apiKeys: t.field({
    type: ApiKeyConnection,
    description: 'Keys of the tenant of the key, in the order in which they were made, revoked ones included.',
    authScopes: { scope: 'keys:read' },
    args: pageArgs,
    resolve: (_root, args, context) => listApiKeys(context, authOf(context).tenantId, args),
  }),
}))

const CreateApiKeyInput = builder.inputType('CreateApiKeyInput', {
  description: 'A key for a tenant.',
  fields: (t) => ({
    tenantId: t.id({
      description: 'Whose key it will be; default: the tenant of the key. Another is for the platform.',
    }),
    name: t.string({ required: true, description: 'What it is for, 1 to 100 characters.' }),
    scopes: t.field({
      type: [ScopeEnum],
      description: 'What it may do, nothing that the caller may not; default: all that the caller can give.',
    }),
    role: t.field({ type: RoleEnum, description: 'Instead of scopes: those of this role.' }),
    expiresAt: t.field({
      type: 'DateTime',
      description: 'From when on it is refused; by default and at the latest when the caller’s own key is.',
    }),
    idempotencyKey: t.string(keyField),
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
    tenantId: t.id({ description: 'Whose key it is; default: the tenant of the key. Another is for the platform.' }),
    id: t.id({ required: true, description: 'The key, `key_…`.' }),
    idempotencyKey: t.string(keyField),
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

const RotateApiKeyInput = builder.inputType('RotateApiKeyInput', {
  description: 'A key to replace.',
  fields: (t) => ({
    tenantId: t.id({ description: 'Whose key it is; default: the tenant of the key. Another is for the platform.' }),
    id: t.id({ required: true, description: 'The key, `key_…`.' }),
    overlapSeconds: t.int({
      description: `How long the old key is good beside the new one, 0 to ${overlapSecondsMax}; default: 0.`,
    }),
    expiresAt: t.field({
      type: 'DateTime',
      description: 'From when on the new key is refused; default: the end of the old one.',
    }),
    idempotencyKey: t.string(keyField),
  }),
})

const RotateApiKeyPayload = builder
  .objectRef<{ apiKey?: ApiKeyRow; replaced?: ApiKeyRow; token?: string; errors: Refusal[] }>('RotateApiKeyPayload')
  .implement({
    description: 'The new key and the old, or why there is none.',
    fields: (t) => ({
      apiKey: t.field({ type: ApiKey, nullable: true, description: 'The new key.', resolve: (row) => row.apiKey }),
      replaced: t.field({
        type: ApiKey,
        nullable: true,
        description: 'The old key with its end.',
        resolve: (row) => row.replaced,
      }),
      token: t.string({
        nullable: true,
        description: 'The new key as programs send it. It is shown this once and kept nowhere.',
        resolve: (row) => row.token,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  createApiKey: t.field({
    type: CreateApiKeyPayload,
    description: 'Makes another key of the tenant, with no scope that the caller has not; the platform, of any tenant.',
    authScopes: { scope: ['keys:write', 'platform:admin'] },
    args: { input: t.arg({ type: CreateApiKeyInput, required: true, description: 'The key.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'createApiKey', input, (context) => createApiKey(context, input), { secrets: ['token'] }),
  }),
  rotateApiKey: t.field({
    type: RotateApiKeyPayload,
    description: 'Puts a new key of the same name and scopes in the place of one, which stays good for an overlap.',
    authScopes: { scope: ['keys:write', 'platform:admin'] },
    args: { input: t.arg({ type: RotateApiKeyInput, required: true, description: 'The key.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'rotateApiKey', input, (context) => rotateApiKey(context, input), { secrets: ['token'] }),
  }),
  revokeApiKey: t.field({
    type: RevokeApiKeyPayload,
    description: 'Refuses a key from the next request on; a repeat changes nothing.',
    authScopes: { scope: ['keys:write', 'platform:admin'] },
    args: { input: t.arg({ type: RevokeApiKeyInput, required: true, description: 'The key.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'revokeApiKey', input, async (context) => ({ apiKey: await revokeApiKey(context, input) })),
  }),
}))
