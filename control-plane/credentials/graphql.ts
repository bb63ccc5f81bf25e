import type { credential, credentialVersion } from '../../schema/tables/index.ts'
import { AppError, isErrorCode } from '../../shared/errors.ts'
import type { Context } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, refusalOf, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { createCredential } from './create-credential.ts'
import { deleteCredential } from './delete-credential.ts'
import { listCredentials } from './list-credentials.ts'
import { readCredential, readVersions } from './read-credential.ts'
import { type KeyRotation, rotateTenantKey } from './rotate-tenant-key.ts'
import { updateCredential } from './update-credential.ts'

/** A credential without its value, which never leaves the workers. */
export type CredentialRow = Omit<typeof credential.$inferSelect, 'sealed'>

const CredentialVersion = builder.objectRef<typeof credentialVersion.$inferSelect>('CredentialVersion').implement({
  description: 'When a value of a credential came and who brought it. The value itself is not shown.',
  fields: (t) => ({
    version: t.exposeInt('version', { description: 'Its number, from 1.' }),
    provider: t.exposeString('provider', { description: 'What it was for.' }),
    createdBy: t.exposeString('createdBy', { description: 'Who brought it.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it came.', resolve: (row) => row.createdAt }),
  }),
})

const CredentialStatus = builder.enumType('CredentialStatus', {
  description: 'Whether pipelines can use a credential.',
  values: {
    PENDING: { value: 'pending', description: 'It waits for its test.' },
    ACTIVE: { value: 'active', description: 'It is used.' },
    FAILED: { value: 'failed', description: 'Its test failed: give it a new value, or retry the run.' },
  } as const,
})

const CredentialMode = builder.enumType('CredentialMode', {
  description: 'When a new credential can be used.',
  values: {
    DIRECT: { value: 'direct', description: 'At once.' },
    QUEUED: { value: 'queued', description: 'When a worker has logged in with it; until then it is pending.' },
  } as const,
})

function problemOf({ problem }: CredentialRow): Refusal | null {
  if (!problem) return null
  const code = isErrorCode(problem.code) ? problem.code : 'INTERNAL'
  return refusalOf(new AppError(code, problem.message, problem.hint === undefined ? {} : { hint: problem.hint }))
}

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
    status: t.field({
      type: CredentialStatus,
      description: 'Whether pipelines can use it.',
      resolve: (row) => row.status,
    }),
    problem: t.field({
      type: UserError,
      nullable: true,
      description: 'Why its test failed.',
      resolve: (row) => problemOf(row),
    }),
    hostKey: t.string({
      nullable: true,
      description:
        'For one that failed because its SFTP server is not pinned: the fingerprint that it showed. Confirm it with its owner.',
      resolve: (row) => row.problem?.host_key,
    }),
    checkRun: t.exposeID('checkRun', { nullable: true, description: 'The run that tries it out.' }),
    versions: t.field({
      type: [CredentialVersion],
      description: 'Its history, newest first, at most 200: numbers, when and by whom.',
      resolve: (row, _args, context) => readVersions(context, row.id),
    }),
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
    mode: t.field({ type: CredentialMode, description: 'When it can be used. Default: DIRECT.' }),
    idempotencyKey: t.string(keyField),
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

const UpdateCredentialInput = builder.inputType('UpdateCredentialInput', {
  description: 'A new value for a credential.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'Which credential.' }),
    secret: t.field({
      type: 'JSON',
      required: true,
      description: 'All its fields anew: none of the old value stays. They are sealed and never shown again.',
    }),
    expectedVersion: t.int({ description: 'Refuse with CONFLICT unless this is the current version.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const UpdateCredentialPayload = builder
  .objectRef<{ credential?: CredentialRow; errors: Refusal[] }>('UpdateCredentialPayload')
  .implement({
    description: 'The credential with its new version, or why it was refused.',
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

const DeleteCredentialInput = builder.inputType('DeleteCredentialInput', {
  description: 'A credential to delete.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'Which credential.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const DeleteCredentialPayload = builder
  .objectRef<{ id?: string; errors: Refusal[] }>('DeleteCredentialPayload')
  .implement({
    description: 'What was deleted, or why it was refused.',
    fields: (t) => ({
      id: t.id({ nullable: true, description: 'The credential that was deleted.', resolve: ({ id }) => id }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

const RotateTenantKeyInput = builder.inputType('RotateTenantKeyInput', {
  description: 'A tenant that gets a new data key.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Whose key.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const RotateTenantKeyPayload = builder
  .objectRef<Partial<KeyRotation> & { errors: Refusal[] }>('RotateTenantKeyPayload')
  .implement({
    description: 'How the rotation stands, or why it was refused.',
    fields: (t) => ({
      version: t.int({ nullable: true, description: 'The key that seals now.', resolve: ({ version }) => version }),
      resealed: t.int({ description: 'Credentials that this call sealed anew.', resolve: (row) => row.resealed ?? 0 }),
      done: t.boolean({
        description: 'Whether all are sealed anew and the old key is destroyed; false: call again to go on.',
        resolve: (row) => row.done ?? false,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.queryFields((t) => ({
  credential: t.field({
    type: Credential,
    nullable: true,
    description: 'A credential of the tenant by its name, without its value; null when there is none.',
    authScopes: { scope: 'credentials:read' },
    args: { name: t.arg.string({ required: true, description: 'How pipelines name it.' }) },
    resolve: (_root, { name }, context) => readCredential(context, name),
  }),
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
    description:
      'Seals and stores a credential, to be used at once or when a worker has tried it out. A name that exists is refused: see updateCredential.',
    authScopes: { scope: 'credentials:write' },
    args: { input: t.arg({ type: CreateCredentialInput, required: true, description: 'The credential.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(
        context,
        'createCredential',
        input,
        async (context) => ({
          credential: await createCredential(context, { ...input, isQueued: input.mode === 'queued' }),
        }),
        { again: async (context, { credential }) => ({ credential: await asItIs(context, credential) }) },
      ),
  }),
  updateCredential: t.field({
    type: UpdateCredentialPayload,
    description:
      'Gives a credential a new value under the next version. Steps that start from now on open the new one.',
    authScopes: { scope: 'credentials:write' },
    args: { input: t.arg({ type: UpdateCredentialInput, required: true, description: 'The new value.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'updateCredential', input, async (context) => ({
        credential: await updateCredential(context, input),
      })),
  }),
  rotateTenantKey: t.field({
    type: RotateTenantKeyPayload,
    description:
      'Gives a tenant a new data key, seals its credentials anew and destroys the old key; runs go on meanwhile. Goes on where an earlier call stopped. For the platform.',
    extensions: { waits: 1 },
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: RotateTenantKeyInput, required: true, description: 'The tenant.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'rotateTenantKey', input, (context) => rotateTenantKey(context, input.tenantId), {
        waits: 1,
      }),
  }),
  deleteCredential: t.field({
    type: DeleteCredentialPayload,
    description: 'Deletes a credential and its history. Steps that name it fail from now on.',
    authScopes: { scope: 'credentials:write' },
    args: { input: t.arg({ type: DeleteCredentialInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'deleteCredential', input, async (context) => ({
        id: (await deleteCredential(context, input.name)).id,
      })),
  }),
}))

// One that waits for its test is asked for again to see how it went.
async function asItIs(context: Context, then: CredentialRow): Promise<CredentialRow> {
  const now = await readCredential(context, then.name)
  return now?.id === then.id ? now : then
}
