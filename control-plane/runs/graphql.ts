import type { Context } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { LogLevel, RunState } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { answer, type Refusal, refusalOfProblem, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { cancelRun } from './cancel-run.ts'
import { listRuns, readRun, type RunRow } from './read-runs.ts'
import { LogLineConnection, RunEvent, TenantEvent } from './event-types.ts'
import { discardDeadLetter, listDeadLetters } from './dead-letters.ts'
import { listEvents } from './read-events.ts'
import { planRun, type RunPlan as RunPlanRow } from './plan-run.ts'
import { retryRun } from './retry-run.ts'
import { type RunRequest, startRun } from './start-run.ts'
import { RunPlan } from './step-types.ts'
import { DeadLetterConnection, PipelineRun, PipelineRunConnection } from './types.ts'
import { watchRun } from './watch-run.ts'
import { cursorOf, watchTenant } from './watch-tenant.ts'

const RunFilter = builder.inputType('RunFilter', {
  description: 'Which runs; what is absent does not filter.',
  fields: (t) => ({
    states: t.field({ type: [RunState], description: 'In one of these states.' }),
    pipeline: t.string({ description: 'Of the pipeline of this path.' }),
    createdFrom: t.field({ type: 'DateTime', description: 'Asked for at or after this moment.' }),
    createdBefore: t.field({ type: 'DateTime', description: 'Asked for before this moment.' }),
  }),
})

builder.queryFields((t) => ({
  run: t.field({
    type: PipelineRun,
    nullable: true,
    description: 'A run of the tenant. One that is missing and one of another tenant give the same NOT_FOUND.',
    authScopes: { scope: 'runs:read' },
    args: { id: t.arg.id({ required: true, description: 'The run, `run_…`.' }) },
    resolve: (_root, { id }, context) => readRun(context, id),
  }),
  runs: t.field({
    type: PipelineRunConnection,
    description: 'Runs of the tenant, newest first.',
    authScopes: { scope: 'runs:read' },
    args: { ...pageArgs, filter: t.arg({ type: RunFilter, description: 'Which runs; default: all.' }) },
    resolve: (_root, { filter, ...args }, context) => listRuns(context, args, filter ?? {}),
  }),
}))

const Priority = builder.enumType('Priority', {
  description: 'Which of a tenant’s runs are served first.',
  values: {
    LOW: { value: -1, description: 'After all others.' },
    NORMAL: { value: 0, description: 'In the order in which they come.' },
    HIGH: { value: 1, description: 'Before all others.' },
  } as const,
})

const RunPipelineInput = builder.inputType('RunPipelineInput', {
  description: 'A run to start.',
  fields: (t) => ({
    pipeline: t.string({ required: true, description: 'Path of a pipeline of the tenant or of a template.' }),
    parameters: t.field({ type: 'JSON', description: 'Values for the parameters that the pipeline declares.' }),
    date: t.field({ type: 'Date', description: 'The day that `{date}` stands for; default: today in UTC.' }),
    idempotencyKey: t.string(keyField),
    priority: t.field({ type: Priority, description: 'Before or after other runs of the tenant.', defaultValue: 0 }),
    environment: t.string({
      description: 'An environment of the tenant: its variables and credentials stand in for those of the pipeline.',
    }),
  }),
})
const CancelRunInput = builder.inputType('CancelRunInput', {
  description: 'A run to stop.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The run, `run_…`.' }),
    reason: t.string({ description: 'Why; shown with the run.' }),
    idempotencyKey: t.string(keyField),
  }),
})
const RetryRunInput = builder.inputType('RetryRunInput', {
  description: 'A run to retry.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The run, `run_…`.' }),
    fromStep: t.string({ description: 'Start anew from this step on; default: from what did not succeed.' }),
    idempotencyKey: t.string(keyField),
  }),
})

type RunAnswer = { run?: RunRow; created?: boolean; errors: Refusal[] }
const RunPipelinePayload = builder.objectRef<RunAnswer>('RunPipelinePayload').implement({
  description: 'The run, or why there is none.',
  fields: (t) => ({
    run: t.field({ type: PipelineRun, nullable: true, description: 'The run.', resolve: (row) => row.run }),
    created: t.boolean({
      description: 'Whether this call started it; false for a repeat of the idempotency key.',
      resolve: (row) => row.created ?? false,
    }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: (row) => row.errors }),
  }),
})
const PlanRunPayload = builder.objectRef<{ plan?: RunPlanRow; errors: Refusal[] }>('PlanRunPayload').implement({
  description: 'What a run would be, or why there would be none.',
  fields: (t) => ({
    plan: t.field({ type: RunPlan, nullable: true, description: 'The plan.', resolve: (row) => row.plan }),
    errors: t.field({ type: [UserError], description: 'Why it would be refused.', resolve: (row) => row.errors }),
  }),
})
const DiscardDeadLetterInput = builder.inputType('DiscardDeadLetterInput', {
  description: 'A dead letter to take off the list.',
  fields: (t) => ({
    runId: t.id({ required: true, description: 'Its run, `run_…`.' }),
    stepKey: t.string({ required: true, description: 'The failed step.' }),
    reason: t.string({ description: 'Why; kept in the run’s events and in the audit log.' }),
    idempotencyKey: t.string(keyField),
  }),
})
const DiscardDeadLetterPayload = runPayload('DiscardDeadLetterPayload', 'The run whose step was discarded.')
const CancelRunPayload = runPayload('CancelRunPayload', 'The run as it stands after the request to stop.')
const RetryRunPayload = runPayload('RetryRunPayload', 'The run as it stands after the request to go on.')

builder.mutationFields((t) => ({
  runPipeline: t.field({
    type: RunPipelinePayload,
    description: 'Starts a run of a pipeline or a template.',
    authScopes: { scope: 'runs:write' },
    args: { input: t.arg({ type: RunPipelineInput, required: true, description: 'The run.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(
        context,
        'runPipeline',
        input,
        (context, idempotencyKey) => runAnswer(context, { ...input, idempotencyKey }),
        { again: async (context, { run }) => (run ? { run: await readRun(context, run.runId) } : {}) },
      ),
  }),
  discardDeadLetter: t.field({
    type: DiscardDeadLetterPayload,
    description: 'Takes a failed step that nobody will run again off the list of dead letters. Its run stays failed.',
    authScopes: { scope: 'runs:write' },
    args: { input: t.arg({ type: DiscardDeadLetterInput, required: true, description: 'The dead letter.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'discardDeadLetter', input, async (context) => {
        await discardDeadLetter(context, input)
        return { run: await readRun(context, input.runId) }
      }),
  }),
  cancelRun: t.field({
    type: CancelRunPayload,
    description: 'Asks a run to stop. A repeat changes nothing.',
    authScopes: { scope: 'runs:write' },
    args: { input: t.arg({ type: CancelRunInput, required: true, description: 'The run.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'cancelRun', input, async (context) => {
        await cancelRun(context, { runId: input.id, reason: input.reason })
        return { run: await readRun(context, input.id) }
      }),
  }),
  retryRun: t.field({
    type: RetryRunPayload,
    description: 'Runs again what did not succeed, or everything from a step on. What succeeded before stays.',
    authScopes: { scope: 'runs:write' },
    args: { input: t.arg({ type: RetryRunInput, required: true, description: 'The run.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'retryRun', input, async (context) => {
        await retryRun(context, { runId: input.id, fromStep: input.fromStep })
        return { run: await readRun(context, input.id) }
      }),
  }),
}))

builder.queryFields((t) => ({
  planRun: t.field({
    type: PlanRunPayload,
    description: 'What `runPipeline` would run with this input: steps, settings and credentials, with nothing started.',
    authScopes: { scope: 'runs:write' },
    args: { input: t.arg({ type: RunPipelineInput, required: true, description: 'The run.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => {
        const plan = await planRun(context, input)
        return 'problems' in plan ? { errors: plan.problems.map(refusalOfProblem) } : { plan, errors: [] }
      }),
  }),
  stepLogs: t.field({
    type: LogLineConnection,
    description:
      'What the steps of a run wrote, in order; kept as long as the run. Those to come: `runEvents`, `step.log`.',
    authScopes: { scope: 'runs:read' },
    args: {
      ...pageArgs,
      runId: t.arg.id({ required: true, description: 'The run, `run_…`.' }),
      stepKey: t.arg.string({ description: 'Lines of this step only.' }),
      level: t.arg({ type: LogLevel, description: 'Lines of this level or worse; default: all.' }),
    },
    resolve: async (_root, { runId, stepKey, level, ...args }, context) => {
      const { runId: found } = await readRun(context, runId)
      return listEvents(context, found, args, { kind: 'logs', stepKey, level })
    },
  }),
  deadLetters: t.field({
    type: DeadLetterConnection,
    description: 'Failed steps that nobody has run again or discarded, those of the newest runs first.',
    authScopes: { scope: 'runs:read' },
    args: pageArgs,
    resolve: (_root, args, context) => listDeadLetters(context, args),
  }),
}))

builder.subscriptionFields((t) => ({
  runEvents: t.field({
    type: RunEvent,
    description:
      'Events of a run as they come, first those that there already are. Each carries its number, in `seq` and in the `id:` line of the stream; a broken stream goes on after it. Ends with the run.',
    authScopes: { scope: 'runs:read' },
    args: {
      runId: t.arg.id({ required: true, description: 'The run, `run_…`.' }),
      after: t.arg.int({ description: 'Only events after this number; default: all, or those after `Last-Event-ID`.' }),
    },
    subscribe: (_root, { runId, after }, context) =>
      watchRun(context, runId, Math.max(after ?? 0, Number(/^\d{1,15}$/.exec(context.lastEventId)?.[0] ?? 0))),
    resolve: (event, _args, context) => {
      context.event.id = event.seq
      return event
    },
  }),
  tenantEvents: t.field({
    type: TenantEvent,
    description:
      'Events of all runs of the tenant as they come, those of one run in their order. Each carries its place, in `cursor` and in the `id:` line of the stream; a broken stream goes on after it.',
    authScopes: { scope: 'runs:read' },
    args: {
      after: t.arg.string({
        required: true,
        description:
          'Only events after this cursor; `now` for those to come, `0` for all. `Last-Event-ID` goes before it.',
      }),
      kinds: t.arg.stringList({
        description: 'Only these types, or all that begin with `run` or `step`; default: all.',
      }),
    },
    subscribe: (_root, { after, kinds }, context) => watchTenant(context, after, kinds),
    resolve: (event, _args, context) => {
      context.event.id = cursorOf(event)
      return event
    },
  }),
}))

async function runAnswer(context: Context, input: RunRequest): Promise<RunAnswer> {
  const started = await startRun(context, input)
  if ('problems' in started) return { errors: started.problems.map(refusalOfProblem) }
  return { run: await readRun(context, started.runId), created: started.created, errors: [] }
}

function runPayload(name: string, description: string) {
  return builder.objectRef<{ run?: RunRow; errors: Refusal[] }>(name).implement({
    description,
    fields: (t) => ({
      run: t.field({ type: PipelineRun, nullable: true, description: 'The run.', resolve: (row) => row.run }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: (row) => row.errors }),
    }),
  })
}
