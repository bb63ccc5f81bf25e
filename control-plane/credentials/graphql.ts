import type { credential } from '../../schema/tables/index.ts'
import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { answer, type Refusal, UserError } from '../graphql/user-errors.ts'
import { createCredential } from './create-credential.ts'
import { listCredentials } from './list-credentials.ts'

/** A credential without its value, which never leaves the workers. */
export type CredentialRow = Omit<typeof credential.$inferSelect, 'sealed'>

/** A stored credential. */
export const Credential = builder.objectRef<CredentialRow>('Credential').implement({
  description: 'A stored credential. Its value can be written but never read.',
  authScopes: { scope: ['credentials:read', 'credentials:write'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `crd_`.' }),
    name: t.exposeString('name', { description: 'How pipelines name it: `credential: <name>`.' }),
    provider: t.exposeString('provider', { description: 'What it is for, as `postgres` or `sftp`.' }),
    version: t.exposeInt('version', { description: 'Grows with every new value.' }),
    createdBy: t.exposeString('createdBy', { description: 'Who stored it first.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was stored first.', resolve: (row) => row.createdAt }),
    updatedAt: t.field({ type: 'DateTime', description: 'When its value came.', resolve: (row) => row.updatedAt }),
  }),
})

const CredentialConnection = builder.connectionObject(
  { type: Credential, name: 'CredentialConnection', description: 'A page of credentials.' },
  { name: 'CredentialEdge', description: 'A credential and its place in the list.' },
)

const CreateCredentialInput = builder.inputType('CreateCredentialInput', {
  description: 'A credential to store.',
  fields: (t) => ({
    name: t.string({
      required: true,
      description: 'How pipelines will name it: lower case letters, digits, _ and -, unique in the tenant.',
    }),
    provider: t.string({ required: true, description: 'What it is for, as `postgres` or `sftp`.' }),
    secret: t.field({
      type: 'JSON',
      required: true,
      description: 'Its fields, as `{"host": …, "username": …, "password": …}`. They are sealed and never shown again.',
    }),
  }),
})

const CreateCredentialPayload = builder
  .objectRef<{ credential?: CredentialRow; errors: Refusal[] }>('CreateCredentialPayload')
  .implement({
    description: 'The stored credential, or why it was refused.',
    fields: (t) => ({
      credential: t.field({
        type: Credential,
        nullable: true,
        description: 'The credential, without its value.',
        resolve: (row) => row.credential,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.queryFields((t) => ({
  credentials: t.field({
    type: CredentialConnection,
    description: 'Credentials of the tenant, without their values, in the order in which they were stored.',
    authScopes: { scope: 'credentials:read' },
    args: pageArgs,
    resolve: (_root, args, context) => listCredentials(context, args),
  }),
}))

builder.mutationFields((t) => ({
  createCredential: t.field({
    type: CreateCredentialPayload,
    description: 'Seals and stores a credential. A name that exists is refused: what pipelines use is not replaced.',
    authScopes: { scope: 'credentials:write' },
    args: { input: t.arg({ type: CreateCredentialInput, required: true, description: 'The credential.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => ({ credential: await createCredential(context, input) })),
  }),
}))
