import { z } from 'zod'
import { ControlWorkers, WorkerStatus } from '../../schema/operations/index.ts'
import { defineRoute, noBody, type Route } from './define.ts'
import { moment, queueShape, queueType } from './shapes.ts'

const action = z.enum(['start', 'stop', 'restart'])
const asked = { start: 'START', stop: 'STOP', restart: 'RESTART' } as const
const force = z.boolean().optional().describe('With stop: what runs is given back instead of waited for.')

/** The workers' side: queues of one tenant, or all there are. */
export const workerRoutes: readonly Route[] = [
  defineRoute({
    method: 'POST',
    path: '/admin/workers/control',
    summary: 'The switch over the queues of all tenants. For the platform.',
    operation: ControlWorkers,
    parameters: z.object({}),
    body: z.strictObject({ action, force }),
    variables: ({ body }) => ({ input: { action: asked[body.action], all: true, force: body.force } }),
    reply: z.strictObject({
      is_running: z.boolean(),
      workers: z.int(),
      capacity: z.int(),
      running: z.int(),
      queued: z.int(),
    }),
    statuses: { 200: 'All workers and queues in figures.' },
    answer({ controlWorkers: { fleet } }) {
      if (!fleet) throw new Error('there is neither a fleet nor a refusal')
      const { isRunning, ...figures } = fleet
      return { status: 200, body: { is_running: isRunning, ...figures } }
    },
  }),
  defineRoute({
    method: 'POST',
    path: '/admin/workers/tenant/control',
    summary: 'Starts, stops or restarts queues of the tenant; for the platform those of any. No step is lost.',
    operation: ControlWorkers,
    parameters: z.object({}),
    body: z.strictObject({
      action,
      tenant_id: z.string().optional().describe('Whose queues; default: those of the key.'),
      queues: z.array(queueType).optional().describe('Which of them; default: all.'),
      force,
    }),
    tenant: { of: ({ body }) => body.tenant_id, foreignFor: ['platform:admin'] },
    variables: ({ body }) => ({
      input: { action: asked[body.action], tenantId: body.tenant_id, queues: body.queues, force: body.force },
    }),
    reply: z.strictObject({ queues: z.array(queueShape) }),
    statuses: { 200: 'The queues as they stand now.' },
    answer: ({ controlWorkers: { queues } }) => ({ status: 200, body: { queues } }),
  }),
  defineRoute({
    method: 'GET',
    path: '/admin/workers/tenant/{tenant_id}/status',
    summary: 'How the queues of the tenant stand, and who serves them; for the platform of any tenant.',
    operation: WorkerStatus,
    parameters: z.object({ tenant_id: z.string() }),
    body: noBody,
    tenant: { of: ({ parameters }) => parameters.tenant_id, foreignFor: ['platform:admin', 'platform:read'] },
    variables: ({ parameters: { tenant_id: tenantId } }) => ({ tenantId }),
    reply: z.strictObject({
      queues: z.array(
        z.strictObject({
          ...queueShape.shape,
          oldest_waiting_seconds: z.int().nullable(),
          paused_by: z.string().nullable(),
        }),
      ),
      workers: z.strictObject({ count: z.int(), last_seen_at: moment.nullable() }),
    }),
    statuses: { 200: 'As they stand.' },
    answer: ({ queues: { nodes }, workers }) => ({
      status: 200,
      body: {
        queues: nodes.map(({ oldestWaitingSeconds, pausedBy, ...queue }) => ({
          ...queue,
          oldest_waiting_seconds: oldestWaitingSeconds,
          paused_by: pausedBy,
        })),
        workers: { count: workers.count, last_seen_at: workers.lastSeenAt },
      },
    }),
  }),
]
