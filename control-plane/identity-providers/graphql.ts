import type { Role } from '../../schema/roles.ts'
import { builder } from '../graphql/builder.ts'
import { RoleEnum } from '../graphql/enums.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import type { Provider } from './authenticate-provider.ts'
import { configureProvider, listProviders, removeProvider } from './configure-provider.ts'

const MappedRole = builder.objectRef<{ value: string; role: Role }>('MappedRole').implement({
  description: 'A value of the claim and the role that it gives.',
  fields: (t) => ({
    value: t.exposeString('value', { description: 'As the claim has it, or one of its list.' }),
    role: t.field({ type: RoleEnum, description: 'The role.', resolve: ({ role }) => role }),
  }),
})

const IdentityProvider = builder.objectRef<Provider>('IdentityProvider').implement({
  description: 'An OpenID Connect provider whose tokens the tenant accepts.',
  authScopes: { scope: ['users:read', 'users:write', 'platform:admin'] },
  fields: (t) => ({
    issuer: t.exposeString('issuer', { description: 'What its tokens and its discovery document say as `iss`.' }),
    audience: t.exposeString('audience', { description: 'What its tokens for this tenant say as `aud`.' }),
    keysUrl: t.exposeString('keysUrl', {
      nullable: true,
      description: 'Where its keys are; null when its discovery document says so.',
    }),
    roleClaim: t.exposeString('roleClaim', { nullable: true, description: 'The claim that roles follow from.' }),
    roles: t.field({
      type: [MappedRole],
      description: 'Which values give which roles.',
      resolve: ({ roleMap }) => Object.entries(roleMap).map(([value, role]) => ({ value, role })),
    }),
    defaultRole: t.field({
      type: RoleEnum,
      nullable: true,
      description: 'The role without a value that is mapped; null lets nobody in without one.',
      resolve: ({ defaultRole }) => defaultRole,
    }),
    emailDomains: t.exposeStringList('emailDomains', {
      description: 'Domains of verified addresses that may come in; none for all.',
    }),
    createsPeople: t.exposeBoolean('createsPeople', {
      description: 'Whether somebody unknown is made a person of the tenant; else it must be one.',
    }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was configured.', resolve: (row) => row.createdAt }),
    updatedAt: t.field({ type: 'DateTime', description: 'When it was last changed.', resolve: (row) => row.updatedAt }),
  }),
})

builder.queryFields((t) => ({
  identityProviders: t.field({
    type: [IdentityProvider],
    description: 'Identity providers of the tenant, by issuer.',
    authScopes: { scope: 'users:read' },
    resolve: (_root, _args, context) => listProviders(context),
  }),
}))

const MappedRoleInput = builder.inputType('MappedRoleInput', {
  description: 'A value of the claim and the role that it gives.',
  fields: (t) => ({
    value: t.string({ required: true, description: 'As the claim has it, or one of its list.' }),
    role: t.field({ type: RoleEnum, required: true, description: 'The role, with no scope that the caller has not.' }),
  }),
})

const ConfigureIdentityProviderInput = builder.inputType('ConfigureIdentityProviderInput', {
  description: 'A provider; one of the same issuer is replaced.',
  fields: (t) => ({
    issuer: t.string({ required: true, description: 'Its URL, letter by letter as in its tokens; https.' }),
    audience: t.string({ required: true, description: 'The client id or audience of this tenant.' }),
    keysUrl: t.string({
      description: 'Where its JSON Web Key Set is, when that is on another host than the issuer; https.',
    }),
    roleClaim: t.string({
      description:
        'A claim with a role or a list of them, as `groups` or `realm_access.roles`; default: roles are kept here.',
    }),
    roles: t.field({ type: [MappedRoleInput], description: 'Which values of it give which roles.' }),
    defaultRole: t.field({
      type: RoleEnum,
      description: 'The role without a value that is mapped; default: nobody comes in without one.',
    }),
    emailDomains: t.stringList({ description: 'Domains of verified addresses that may come in; default: all.' }),
    createsPeople: t.boolean({
      description: 'Whether somebody unknown with a verified address is made a person; default: false.',
    }),
    idempotencyKey: t.string(keyField),
  }),
})

const RemoveIdentityProviderInput = builder.inputType('RemoveIdentityProviderInput', {
  description: 'A provider to accept no more.',
  fields: (t) => ({
    issuer: t.string({ required: true, description: 'Its issuer.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const IdentityProviderPayload = builder
  .objectRef<{ provider?: Provider; errors: Refusal[] }>('IdentityProviderPayload')
  .implement({
    description: 'The provider as it stands, or as it was when it is removed; or why not.',
    fields: (t) => ({
      provider: t.field({
        type: IdentityProvider,
        nullable: true,
        description: 'The provider.',
        resolve: ({ provider }) => provider,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  configureIdentityProvider: t.field({
    type: IdentityProviderPayload,
    description:
      'Accepts tokens of an OpenID Connect provider as bearers, in requests that name the tenant in the header x-tenant-id.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: ConfigureIdentityProviderInput, required: true, description: 'The provider.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'configureIdentityProvider', input, async (context) => ({
        provider: await configureProvider(context, input),
      })),
  }),
  removeIdentityProvider: t.field({
    type: IdentityProviderPayload,
    description: 'Accepts tokens of a provider no more, from the next request on.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: RemoveIdentityProviderInput, required: true, description: 'The provider.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'removeIdentityProvider', input, async (context) => ({
        provider: await removeProvider(context, input.issuer),
      })),
  }),
}))
