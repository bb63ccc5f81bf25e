import { asc, eq } from 'drizzle-orm'
import { tenantEnvironment } from '../../schema/tables/index.ts'
import { builder } from '../graphql/builder.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { Tenant } from '../tenants/graphql.ts'
import { asReader } from '../tenants/read-tenant.ts'
import { deleteEnvironment, type EnvironmentRow, environmentsMax, saveEnvironment } from './save-environment.ts'

const Environment = builder.objectRef<EnvironmentRow>('Environment').implement({
  description: 'Values that pipelines take in one of a tenant’s surroundings, as dev, staging or prod.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'Its name: `runPipeline(input: { environment: … })`.' }),
    version: t.exposeInt('version', { description: 'Grows with every change.' }),
    variables: t.field({
      type: 'JSON',
      description: 'Values by name, in the place of variables and parameters of a pipeline.',
      resolve: ({ variables }) => variables,
    }),
    credentials: t.field({
      type: 'JSON',
      description: 'Which credential stands for which: by its name, or by the provider where a step names none.',
      resolve: ({ credentials }) => credentials,
    }),
    updatedAt: t.field({ type: 'DateTime', description: 'When it was saved.', resolve: (row) => row.updatedAt }),
  }),
})

builder.objectField(Tenant, 'environments', (t) =>
  t.field({
    type: [Environment],
    description: `Its environments by name, at most ${environmentsMax}.`,
    resolve: (row, _args, context) =>
      asReader(context, row.id, 'environments', (tx) =>
        tx
          .select()
          .from(tenantEnvironment)
          .where(eq(tenantEnvironment.tenantId, row.id))
          .orderBy(asc(tenantEnvironment.name)),
      ),
  }),
)

const SaveEnvironmentInput = builder.inputType('SaveEnvironmentInput', {
  description: 'An environment to make or to change.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'Lower case letters, digits, _ and -, at most 32.' }),
    variables: t.field({
      type: 'JSON',
      description: 'All its variables, `{"bucket": "dev-data"}`; absent: they stay. No secrets: those are credentials.',
    }),
    credentials: t.field({
      type: 'JSON',
      description: 'All its credentials, `{"warehouse": "warehouse_dev"}`; absent: they stay.',
    }),
    expectedVersion: t.int({ description: 'Refuse unless this is the current version; 0: unless there is none.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const SaveEnvironmentPayload = builder
  .objectRef<{ environment?: EnvironmentRow; errors: Refusal[] }>('SaveEnvironmentPayload')
  .implement({
    description: 'The environment, or why it was refused.',
    fields: (t) => ({
      environment: t.field({
        type: Environment,
        nullable: true,
        description: 'The environment.',
        resolve: (row) => row.environment,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

const DeleteEnvironmentInput = builder.inputType('DeleteEnvironmentInput', {
  description: 'An environment to delete.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'Which environment.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const DeleteEnvironmentPayload = builder
  .objectRef<{ name?: string; errors: Refusal[] }>('DeleteEnvironmentPayload')
  .implement({
    description: 'What was deleted, or why it was refused.',
    fields: (t) => ({
      name: t.string({ nullable: true, description: 'The environment that was deleted.', resolve: (row) => row.name }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  saveEnvironment: t.field({
    type: SaveEnvironmentPayload,
    description: 'Makes or changes an environment of the tenant. Runs that have started keep the values they took.',
    authScopes: { scope: 'tenant:write' },
    args: { input: t.arg({ type: SaveEnvironmentInput, required: true, description: 'The environment.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'saveEnvironment', input, async (context) => ({
        environment: await saveEnvironment(context, input),
      })),
  }),
  deleteEnvironment: t.field({
    type: DeleteEnvironmentPayload,
    description: 'Deletes an environment of the tenant.',
    authScopes: { scope: 'tenant:write' },
    args: { input: t.arg({ type: DeleteEnvironmentInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'deleteEnvironment', input, async (context) => ({
        name: await deleteEnvironment(context, input.name),
      })),
  }),
}))
