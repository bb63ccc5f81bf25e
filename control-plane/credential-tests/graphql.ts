import { builder } from '../graphql/builder.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { type CredentialTest, testCredential } from './test-credential.ts'

const TestCredentialInput = builder.inputType('TestCredentialInput', {
  description: 'A credential to try out.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'Which credential.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const TestCredentialPayload = builder
  .objectRef<Partial<CredentialTest> & { errors: Refusal[] }>('TestCredentialPayload')
  .implement({
    description: 'What the other end said, or why there was no test.',
    fields: (t) => ({
      ok: t.boolean({
        nullable: true,
        description: 'Whether the log-in worked; null when there was no test.',
        resolve: (row) => row.ok,
      }),
      problem: t.field({
        type: UserError,
        nullable: true,
        description: 'What is wrong with the credential or the way to the other end.',
        resolve: (row) => row.problem,
      }),
      hostKey: t.string({
        nullable: true,
        description:
          'For an SFTP server whose key is not pinned: the fingerprint that it shows. Confirm it with its owner, then set it as `hostKey`.',
        resolve: (row) => row.hostKey,
      }),
      errors: t.field({ type: [UserError], description: 'Why there was no test.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  testCredential: t.field({
    type: TestCredentialPayload,
    description:
      'Has a worker log in with a credential and lists or queries something small. Nothing is written there.',
    extensions: { waits: 1 },
    authScopes: { scope: 'credentials:write' },
    args: { input: t.arg({ type: TestCredentialInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'testCredential', input, (context) => testCredential(context, input.name), { waits: 1 }),
  }),
}))
