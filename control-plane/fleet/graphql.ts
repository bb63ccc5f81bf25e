import type { FleetStanding, QueueStanding, WorkerAction } from '../../shared/runs/fleet.ts'
import type { Context } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { QueueType } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { type ControlRequest, controlWorkers } from './control-workers.ts'
import { listQueues, platformReaders, queuesOf } from './read-queues.ts'
import { countWorkers, readFleet } from './read-workers.ts'
import { setQueueLimits } from './set-queue-limits.ts'
import { Fleet, queueReaders, QueueStatus, QueueStatusConnection, Workers } from './types.ts'
import { watchQueues } from './watch-queues.ts'

builder.queryFields((t) => ({
  queues: t.field({
    type: QueueStatusConnection,
    description:
      'How queues stand: those of the tenant; for the platform those of the tenant that it names, or of all tenants.',
    authScopes: { scope: queueReaders },
    args: { ...pageArgs, tenantId: t.arg.id({ description: 'Whose; default: those of the key, or all.' }) },
    resolve: (_root, { tenantId, ...args }, context) => listQueues(context, args, tenantId),
  }),
  workers: t.field({
    type: Workers,
    description: 'The workers that serve the tenant; for the platform those of the tenant that it names, or all.',
    authScopes: { scope: queueReaders },
    args: { tenantId: t.arg.id({ description: 'Whom they serve; default: the tenant of the key, or anybody.' }) },
    resolve: (_root, { tenantId }, context) => countWorkers(context, tenantId),
  }),
  fleet: t.field({
    type: Fleet,
    description: 'All workers and queues in figures. For the platform.',
    authScopes: { scope: platformReaders },
    resolve: (_root, _args, context) => readFleet(context),
  }),
}))

const WorkerActionEnum = builder.enumType('WorkerAction', {
  description: 'What is asked of queues.',
  values: {
    START: { value: 'start' as const, description: 'Take steps again.' },
    STOP: {
      value: 'stop' as const,
      description: 'Take no steps; what runs goes on to its end, or with `force` is given back and runs again later.',
    },
    RESTART: {
      value: 'restart' as const,
      description: 'Take steps, and give back what runs, so that it runs again from its beginning.',
    },
  } satisfies Record<string, { value: WorkerAction; description: string }>,
})

const ControlWorkersInput = builder.inputType('ControlWorkersInput', {
  description: 'What is asked of which queues.',
  fields: (t) => ({
    action: t.field({ type: WorkerActionEnum, required: true, description: 'What to do.' }),
    tenantId: t.id({ description: 'Whose queues; default: those of the key. Only the platform names another tenant.' }),
    queues: t.field({ type: [QueueType], description: 'Which of them; default: all.' }),
    all: t.boolean({
      description: 'The switch over the queues of all tenants, instead of a tenant. For the platform.',
    }),
    force: t.boolean({ defaultValue: false, description: 'With STOP: what runs is given back instead of waited for.' }),
    idempotencyKey: t.string(keyField),
  }),
})
const QueueLimitsInput = builder.inputType('QueueLimitsInput', {
  description: 'Limits of a queue; what is absent stays.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Whose queue.' }),
    queue: t.field({ type: QueueType, required: true, description: 'Which of its queues.' }),
    maxRunning: t.int({ description: 'Steps that may run at once, 1 to 1000.' }),
    stepsPerTurn: t.int({ description: 'Steps that it gets when its turn among the tenants comes, 1 to 100.' }),
    idempotencyKey: t.string(keyField),
  }),
})

type ControlAnswer = { queues?: QueueStanding[]; fleet?: FleetStanding; errors: Refusal[] }
const ControlWorkersPayload = builder.objectRef<ControlAnswer>('ControlWorkersPayload').implement({
  description: 'The queues as they stand after the request, or why it was refused.',
  fields: (t) => ({
    queues: t.field({
      type: [QueueStatus],
      description: 'The queues that it was about; none when it was about all tenants.',
      resolve: (row) => row.queues ?? [],
    }),
    fleet: t.field({
      type: Fleet,
      nullable: true,
      description: 'The fleet, when it was about all tenants.',
      resolve: (row) => row.fleet,
    }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: (row) => row.errors }),
  }),
})
const QueueLimitsPayload = builder
  .objectRef<{ queue?: QueueStanding | undefined; errors: Refusal[] }>('QueueLimitsPayload')
  .implement({
    description: 'The queue with its limits, or why they were refused.',
    fields: (t) => ({
      queue: t.field({ type: QueueStatus, nullable: true, description: 'The queue.', resolve: (row) => row.queue }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: (row) => row.errors }),
    }),
  })

builder.mutationFields((t) => ({
  controlWorkers: t.field({
    type: ControlWorkersPayload,
    description:
      'Starts, stops or restarts queues of the tenant; for the platform those of any tenant, or the switch over all. No step is lost, and runs are taken in all the while. A repeat changes nothing.',
    authScopes: { scope: ['workers:write', 'platform:admin'] },
    args: { input: t.arg({ type: ControlWorkersInput, required: true, description: 'What to do.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'controlWorkers', input, (context) => controlAnswer(context, input)),
  }),
  setQueueLimits: t.field({
    type: QueueLimitsPayload,
    description: 'Sets how much of a queue runs at once, and its share beside other tenants. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: QueueLimitsInput, required: true, description: 'The limits.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'setQueueLimits', input, async (context) => {
        await setQueueLimits(context, input)
        return { queue: (await queuesOf(context, input.tenantId, [input.queue]))[0] }
      }),
  }),
}))

builder.subscriptionFields((t) => ({
  queueStatus: t.field({
    type: [QueueStatus],
    description:
      'How the queues of a tenant stand: first all of them, then those that changed, at most twice a second. A stream that ends for its age is opened again.',
    authScopes: { scope: queueReaders },
    args: { tenantId: t.arg.id({ description: 'Whose; default: those of the key. Only the platform names another.' }) },
    subscribe: (_root, { tenantId }, context) => watchQueues(context, tenantId),
    resolve: (queues) => queues,
  }),
}))

async function controlAnswer(context: Context, input: ControlRequest): Promise<Omit<ControlAnswer, 'errors'>> {
  const controlled = await controlWorkers(context, input)
  if (controlled === 'all') return { fleet: await readFleet(context) }
  return { queues: await queuesOf(context, controlled.tenantId, controlled.queues) }
}
