import { z } from 'zod'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'

/** `tenant.provision_lake`: the tenant's lake is there and answers. Opening it has made it and its own tables. */
export default defineProcessor({
  type: 'tenant.provision_lake',
  title: 'Prepare the lake',
  description: 'Makes the lake of a new tenant and asks it one question.',
  queue: 'transform',
  settings: z.strictObject({}),
  credentialProviders: [],
  writes: false,
  run: provisionLake,
})

async function provisionLake(ctx: StepContext): Promise<StepResult> {
  using connection = await ctx.lake.connect(ctx.signal)
  await connection.rows('select 1')
  return { outputs: {} }
}
