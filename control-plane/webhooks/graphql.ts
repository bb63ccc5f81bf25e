import type { WebhookRow } from '../../shared/webhooks/open-webhook.ts'
import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, refusalOfProblem, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { createWebhook } from './create-webhook.ts'
import { deleteWebhook } from './delete-webhook.ts'
import { listWebhooks } from './read-webhooks.ts'
import { rotateWebhook, webhookOverlap } from './rotate-webhook.ts'

const Webhook = builder.objectRef<WebhookRow>('Webhook').implement({
  description: 'A door for signed requests that start runs of one pipeline, in the manner of Standard Webhooks.',
  authScopes: { scope: ['schedules:read', 'schedules:write'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `whk_`.' }),
    url: t.string({
      description: 'Where messages are posted, below the address of this API.',
      resolve: ({ id }) => `/v1/hooks/${id}`,
    }),
    name: t.exposeString('name', { description: 'Its name, unique for the tenant.' }),
    pipelinePath: t.exposeString('pipeline', { description: 'Path of its pipeline.' }),
    parameters: t.field({
      type: 'JSON',
      description: 'What every run is given, whatever the message says.',
      resolve: (row) => row.parameters,
    }),
    mapping: t.field({
      type: 'JSON',
      description: 'Where in the body a parameter stands: `{"day": "event.day"}`.',
      resolve: (row) => row.mapping,
    }),
    environment: t.exposeString('environment', {
      nullable: true,
      description: 'The environment of the tenant whose values its runs take.',
    }),
    messagesPerMinute: t.exposeInt('rateMax', { description: 'How many messages it takes in a minute.' }),
    version: t.exposeInt('version', { description: 'Which secret it has, from 1.' }),
    previousUntil: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'Until when the secret before is good.',
      resolve: (row) => row.previousUntil,
    }),
    lastUsedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it got its last signed message.',
      resolve: (row) => row.lastUsedAt,
    }),
    createdBy: t.exposeString('createdBy', { description: 'Who made it.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was made.', resolve: (row) => row.createdAt }),
  }),
})
const WebhookConnection = builder.connectionObject(
  { type: Webhook, name: 'WebhookConnection', description: 'A page of webhooks.' },
  { name: 'WebhookEdge', description: 'A webhook and its place in the list.' },
)

builder.queryFields((t) => ({
  webhooks: t.field({
    type: WebhookConnection,
    description: 'Webhooks of the tenant by name, never their secrets.',
    authScopes: { scope: 'schedules:read' },
    args: pageArgs,
    resolve: (_root, args, context) => listWebhooks(context, args),
  }),
}))

const CreateWebhookInput = builder.inputType('CreateWebhookInput', {
  description: 'A webhook to make.',
  fields: (t) => ({
    name: t.string({ required: true, description: 'Lower case letters, digits, _ and -, at most 63.' }),
    pipeline: t.string({ required: true, description: 'Path of a pipeline of the tenant or of a template.' }),
    parameters: t.field({ type: 'JSON', description: 'What every run is given, whatever the message says.' }),
    mapping: t.field({
      type: 'JSON',
      description:
        'Where in the body a parameter stands: `{"day": "event.day"}`. Fields at the top of the body are taken by name.',
    }),
    environment: t.string({ description: 'The environment of the tenant whose values its runs take.' }),
    messagesPerMinute: t.int({ description: 'How many messages it takes in a minute, 1 to 600; default: 60.' }),
    idempotencyKey: t.string(keyField),
  }),
})
const RotateWebhookInput = builder.inputType('RotateWebhookInput', {
  description: 'A webhook to give a new secret.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The webhook, `whk_…`.' }),
    overlapSeconds: t.int({
      description: `How long the secret before stays good, 0 to ${webhookOverlap.max}; default: ${webhookOverlap.default}.`,
    }),
    idempotencyKey: t.string(keyField),
  }),
})
const DeleteWebhookInput = builder.inputType('DeleteWebhookInput', {
  description: 'A webhook to delete.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The webhook, `whk_…`.' }),
    idempotencyKey: t.string(keyField),
  }),
})

type Answer = { webhook?: WebhookRow; secret?: string; errors: Refusal[] }
const secretPayload = (name: string, description: string) =>
  builder.objectRef<Answer>(name).implement({
    description,
    fields: (t) => ({
      webhook: t.field({ type: Webhook, nullable: true, description: 'The webhook.', resolve: (row) => row.webhook }),
      secret: t.string({
        nullable: true,
        description: 'What messages are signed with, `whsec_…`. It is shown this once.',
        resolve: (row) => row.secret,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })
const CreateWebhookPayload = secretPayload('CreateWebhookPayload', 'The webhook with its secret, or why there is none.')
const RotateWebhookPayload = secretPayload('RotateWebhookPayload', 'The webhook with its new secret, or why not.')
const DeleteWebhookPayload = builder.objectRef<{ id?: string; errors: Refusal[] }>('DeleteWebhookPayload').implement({
  description: 'What was deleted, or why it was refused.',
  fields: (t) => ({
    id: t.id({ nullable: true, description: 'The webhook that was deleted.', resolve: (row) => row.id }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})

builder.mutationFields((t) => ({
  createWebhook: t.field({
    type: CreateWebhookPayload,
    description: 'Makes a webhook for a pipeline.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: CreateWebhookInput, required: true, description: 'The webhook.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(
        context,
        'createWebhook',
        input,
        async (context): Promise<Answer> => {
          const created = await createWebhook(context, input)
          return 'problems' in created ? { errors: created.problems.map(refusalOfProblem) } : { ...created, errors: [] }
        },
        { secrets: ['secret'] },
      ),
  }),
  rotateWebhook: t.field({
    type: RotateWebhookPayload,
    description: 'Gives a webhook a new secret; the one before stays good for an overlap.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: RotateWebhookInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'rotateWebhook', input, (context) => rotateWebhook(context, input), { secrets: ['secret'] }),
  }),
  deleteWebhook: t.field({
    type: DeleteWebhookPayload,
    description: 'Removes a webhook; messages for it are refused from now on.',
    authScopes: { scope: 'schedules:write' },
    args: { input: t.arg({ type: DeleteWebhookInput, required: true, description: 'Which one.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'deleteWebhook', input, async (context) => ({ id: await deleteWebhook(context, input.id) })),
  }),
}))
