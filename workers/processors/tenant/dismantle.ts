import { rm } from 'node:fs/promises'
import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'

/** `tenant.dismantle`: no table and no file of the tenant is left. Refused in every run but that of offboarding. */
export default defineProcessor({
  type: 'tenant.dismantle',
  title: 'Remove the tenant’s data',
  description: 'Removes lake and folders of a tenant that leaves. Only offboarding can run it.',
  queue: 'transform',
  settings: z.strictObject({}),
  credentialProviders: [],
  writes: false,
  run: dismantle,
})

async function dismantle(ctx: StepContext): Promise<StepResult> {
  if (ctx.run.trigger !== 'offboard')
    throw new AppError('CONFIG_INVALID', 'Only the offboarding of a tenant removes its data.', {
      hint: 'Delete files with file.delete.',
    })
  await ctx.lake.drop()
  await rm(ctx.files.root, { recursive: true, force: true })
  return { outputs: {} }
}
