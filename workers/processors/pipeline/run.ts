import { z } from 'zod'
import { defineProcessor, type StepResult } from '../../define.ts'

/**
 * `pipeline.run`: starts a run of another pipeline of the tenant and ends as that run ends. While it waits it holds no
 * worker. Its outputs are `run_id` and `state`.
 */
export default defineProcessor({
  type: 'pipeline.run',
  title: 'Run another pipeline',
  description: 'Starts a run of another pipeline and waits for its end.',
  queue: 'transform',
  settings: z.strictObject({
    pipeline: z.string().min(1).max(200).describe('Path of a pipeline of the tenant or of a template.'),
    parameters: z
      .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
      .default({})
      .describe('Values for the parameters that it declares.'),
    environment: z.string().max(64).optional().describe('The environment whose values it takes.'),
  }),
  credentialProviders: [],
  writes: false,
  run: async (_ctx, { pipeline, parameters, environment = null }): Promise<StepResult> => ({
    outputs: {},
    run: { pipeline, parameters, environment },
  }),
})
