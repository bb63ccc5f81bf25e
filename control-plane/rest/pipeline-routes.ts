import { z } from 'zod'
import { Run, RunPipeline } from '../../schema/operations/index.ts'
import { defineRoute, noBody, type Route } from './define.ts'
import { runShape } from './shapes.ts'

/** Running pipelines. */
export const pipelineRoutes: readonly Route[] = [
  defineRoute({
    method: 'POST',
    path: '/pipelines/run/{tenant_id}/{provider}/{domain}/{template}',
    summary: 'Starts a run of configs/{provider}/{domain}/{template}.yml, or of a pipeline saved under this path.',
    operation: RunPipeline,
    parameters: z.object({
      tenant_id: z.string(),
      provider: z.string(),
      domain: z.string(),
      template: z.string(),
      environment: z.string().optional().describe('An environment of the tenant, whose values the run takes.'),
    }),
    body: z
      .object({ date: z.iso.date().optional().describe('The day that `{date}` stands for; default: today in UTC.') })
      .catchall(z.unknown())
      .describe('Values for the parameters that the pipeline declares.'),
    isBodyOptional: true,
    tenant: { of: ({ parameters }) => parameters.tenant_id, foreignFor: [] },
    variables: ({ parameters: { provider, domain, template, environment }, body: { date, ...parameters } }) => ({
      input: { pipeline: `${provider}/${domain}/${template}`, date, parameters, environment },
    }),
    reply: z.strictObject({
      run_id: z.string(),
      state: z.string(),
      created: z.boolean().describe('Whether this request started it; false for a repeat of the idempotency key.'),
    }),
    statuses: { 202: 'It is started; where it stands is told under `location`.', 200: 'It was started before.' },
    answer({ runPipeline: { run, created } }) {
      if (!run) throw new Error('there is neither a run nor a refusal')
      const { id, state } = run
      return {
        status: created ? 202 : 200,
        body: { run_id: id, state, created },
        location: `/api/v1/pipelines/runs/${id}`,
      }
    },
  }),
  defineRoute({
    method: 'GET',
    path: '/pipelines/runs/{run_id}',
    summary: 'A run with its steps.',
    operation: Run,
    parameters: z.object({ run_id: z.string() }),
    body: noBody,
    variables: ({ parameters: { run_id: id } }) => ({ id }),
    reply: runShape,
    statuses: { 200: 'As it stands.' },
    answer({ run }) {
      if (!run) throw new Error('there is neither a run nor an error')
      const { error } = run
      return {
        status: 200,
        body: {
          run_id: run.id,
          pipeline: run.pipelinePath,
          state: run.state,
          parameters: run.parameters,
          created_at: run.createdAt,
          started_at: run.startedAt,
          finished_at: run.finishedAt,
          error: error && { code: error.code, message: error.message, hint: error.hint, step_id: error.stepKey },
          steps: run.steps.map((step) => ({
            step_id: step.key,
            ps_type: step.type,
            state: step.state,
            attempt: step.attempt,
            started_at: step.startedAt,
            finished_at: step.finishedAt,
            outputs: step.outputs,
            error: step.error,
          })),
        },
      }
    },
  }),
]
