import { queueTypes } from '../../schema/states.ts'
import type { FleetStanding, QueueFailure, QueueStanding } from '../../shared/runs/fleet.ts'
import { builder } from '../graphql/builder.ts'
import { QueueState, QueueType } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { failuresOf, platformReaders } from './read-queues.ts'
import { listWorkers, type WorkerRow, type WorkersSeen } from './read-workers.ts'

/** Scopes that open how queues stand. */
export const queueReaders = ['workers:read', ...platformReaders] as const

const QueueError = builder.objectRef<QueueFailure>('QueueError').implement({
  description: 'A failure of a step of a queue.',
  fields: (t) => ({
    runId: t.exposeID('runId', { description: 'Its run.' }),
    step: t.exposeString('stepKey', { description: 'The step.' }),
    code: t.exposeString('code', { description: 'What went wrong, from the list of error codes.' }),
    message: t.exposeString('message', { description: 'The same in words, for people.' }),
    willRetry: t.exposeBoolean('willRetry', { description: 'Whether the step will be tried again by itself.' }),
    at: t.field({
      type: 'DateTime',
      description: 'When the step ended; when its try began, if there will be another.',
      resolve: (row) => row.at,
    }),
  }),
})

const QueueWorkers = builder.objectRef<QueueStanding>('QueueWorkers').implement({
  description: 'The workers that serve a queue, as far as its tenant is concerned.',
  fields: (t) => ({
    count: t.exposeInt('workers', { description: 'How many were seen within 30 seconds.' }),
    lastSeenAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When one of them was seen last.',
      resolve: (row) => row.seenAt,
    }),
  }),
})

/** How a queue stands. */
export const QueueStatus = builder.objectRef<QueueStanding>('QueueStatus').implement({
  description: 'How a logical queue of a tenant stands.',
  authScopes: { scope: ['workers:write', ...queueReaders] },
  fields: (t) => ({
    name: t.id({
      description: 'Its name on the platform, as `transform_queue_tenant_guru_232342`.',
      resolve: ({ queue, tenantId }) => `${queue}_queue_tenant_${tenantId}`,
    }),
    tenantId: t.exposeID('tenantId', { description: 'Whose it is.' }),
    type: t.field({ type: QueueType, description: 'Which of its queues.', resolve: ({ queue }) => queue }),
    state: t.field({ type: QueueState, description: 'How it stands.', resolve: ({ state }) => state }),
    queued: t.exposeInt('ready', { description: 'Steps that wait for a worker, or for their next try.' }),
    running: t.exposeInt('running', { description: 'Steps that run now.' }),
    limit: t.exposeInt('maxRunning', { description: 'Steps that may run at once.' }),
    stepsPerTurn: t.exposeInt('weight', {
      description: 'Steps that it gets when its turn among the tenants comes.',
    }),
    oldestWaitingSeconds: t.exposeInt('waitingSeconds', {
      nullable: true,
      description: 'How long the step that could start for longest has been waiting; null when none could.',
    }),
    oldestWaitingSince: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'Since when it could.',
      resolve: ({ oldestAt }) => oldestAt,
    }),
    workers: t.field({ type: QueueWorkers, description: 'Who serves it.', resolve: (row) => row }),
    lastErrors: t.field({
      type: [QueueError],
      description: 'Its last failures, newest first, at most 10.',
      resolve: (row, _args, context) => failuresOf(context, row),
    }),
    pausedBy: t.exposeString('pausedBy', {
      nullable: true,
      description: 'Who stopped it; `platform` for its operator. Null while it runs.',
    }),
    pausedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it was stopped.',
      resolve: (row) => row.pausedAt,
    }),
  }),
})

/** A page of queues. */
export const QueueStatusConnection = builder.connectionObject(
  { type: QueueStatus, name: 'QueueStatusConnection', description: 'A page of queues.' },
  { name: 'QueueStatusEdge', description: 'A queue and its place in the list.' },
)

const Worker = builder.objectRef<WorkerRow>('Worker').implement({
  description: 'A worker process.',
  authScopes: { scope: platformReaders },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `wrk_`; each start of a process is another worker.' }),
    host: t.exposeString('host', { description: 'The machine.' }),
    pid: t.exposeInt('pid', { description: 'The process.' }),
    version: t.exposeString('version', { description: 'The release that it runs.' }),
    queues: t.field({ type: [QueueType], description: 'The types of queues it serves.', resolve: typesOf }),
    tenants: t.exposeStringList('tenants', { nullable: true, description: 'The tenants it serves; null for all.' }),
    capacity: t.exposeInt('capacity', { description: 'Steps that it runs at once.' }),
    running: t.exposeInt('running', { description: 'Steps that it ran when it was last seen.' }),
    isLive: t.exposeBoolean('isLive', { description: 'Whether it was seen within 30 seconds.' }),
    isDraining: t.exposeBoolean('draining', { description: 'Whether it is about to end and takes nothing new.' }),
    startedAt: t.field({ type: 'DateTime', description: 'When it started.', resolve: (row) => row.startedAt }),
    lastSeenAt: t.field({ type: 'DateTime', description: 'When it was last seen.', resolve: (row) => row.lastSeen }),
  }),
})

const WorkerConnection = builder.connectionObject(
  { type: Worker, name: 'WorkerConnection', description: 'A page of workers.' },
  { name: 'WorkerEdge', description: 'A worker and its place in the list.' },
)

/** The workers that serve somebody. */
export const Workers = builder.objectRef<WorkersSeen>('Workers').implement({
  description: 'The workers that serve a tenant, or for the platform all.',
  authScopes: { scope: queueReaders },
  fields: (t) => ({
    count: t.exposeInt('count', { description: 'How many were seen within 30 seconds and take new steps.' }),
    lastSeenAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When one of them was seen last; null when there is none.',
      resolve: (row) => row.seenAt,
    }),
    processes: t.field({
      type: WorkerConnection,
      description: 'Each of them, and those that went within a day without a word. For the platform.',
      authScopes: { scope: platformReaders },
      args: pageArgs,
      resolve: ({ tenantId }, args, context) => listWorkers(context, args, tenantId),
    }),
  }),
})

/** The fleet in figures. */
export const Fleet = builder.objectRef<FleetStanding>('Fleet').implement({
  description: 'All workers and queues in figures.',
  authScopes: { scope: platformReaders },
  fields: (t) => ({
    isRunning: t.boolean({
      description: 'Whether the switch over all queues is on.',
      resolve: ({ desired }) => desired === 'running',
    }),
    pausedBy: t.exposeString('pausedBy', { nullable: true, description: 'Who turned it off.' }),
    pausedAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it was turned off.',
      resolve: ({ pausedMs }) => (pausedMs === null ? null : new Date(pausedMs)),
    }),
    workers: t.exposeInt('workers', { description: 'Workers seen within 30 seconds that take new steps.' }),
    capacity: t.exposeInt('capacity', { description: 'Steps that they can run at once.' }),
    running: t.exposeInt('running', { description: 'Steps that run now.' }),
    queued: t.exposeInt('ready', { description: 'Steps that wait for a worker, or for their next try.' }),
    tenantsWaiting: t.exposeInt('tenantsWaiting', { description: 'Tenants of which a step could start now.' }),
  }),
})

// The table holds names of queue types alone: workers are started with nothing else.
const typesOf = ({ queues }: WorkerRow) => queueTypes.filter((type) => queues.includes(type))
