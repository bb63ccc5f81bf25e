import { rename, rm, rmdir, stat, utimes } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { exportFolder } from '../../sweep-exports.ts'

/**
 * `tenant.dismantle`: no table and no file of the tenant is left, and no folder but `export` beside them, when there is an
 * export to hand over. Refused in every run but that of offboarding.
 */
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
  const home = dirname(ctx.files.root)
  const isKept = await keepExport(join(ctx.files.root, exportFolder), join(home, 'export'))
  await rm(ctx.files.root, { recursive: true, force: true })
  // Beside this attempt's folder there may be those of attempts that were killed.
  const work = dirname(ctx.workDir)
  if (basename(work) === 'work' && dirname(work) === home) await rm(work, { recursive: true, force: true })
  if (!isKept) await rmdir(home).catch(() => undefined)
  return { outputs: { export_kept: isKept } }
}

// A repeat after a crash finds it moved already. From here on it has its days.
async function keepExport(from: string, to: string): Promise<boolean> {
  if (await isThere(from)) {
    await rm(to, { recursive: true, force: true })
    await rename(from, to)
    const now = new Date()
    await utimes(to, now, now)
  }
  return isThere(to)
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
