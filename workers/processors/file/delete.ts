import { rm, stat } from 'node:fs/promises'
import { z } from 'zod'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { throwIfAborted } from '../../aborted.ts'

const settingsShape = z.strictObject({
  paths: z.array(z.string().min(1)).min(1).max(100).describe('Files or patterns in the tenant folder.'),
})

/** `file.delete`: removes files of the tenant folder; folders stay. What is already gone is no fault. */
export default defineProcessor({
  type: 'file.delete',
  title: 'Delete files',
  description: 'Deletes the files of the tenant folder that match; nothing to delete is no fault.',
  queue: 'export',
  settings: settingsShape,
  credentialProviders: [],
  writes: false,
  run: deleteFiles,
})

async function deleteFiles(ctx: StepContext, settings: z.output<typeof settingsShape>): Promise<StepResult> {
  const paths = await ctx.files.match(settings.paths)
  let bytes = 0
  for (const [index, path] of paths.entries()) {
    throwIfAborted(ctx.signal)
    const absolute = await ctx.files.resolve(path)
    bytes += (await stat(absolute).catch(() => undefined))?.size ?? 0
    await rm(absolute, { force: true })
    ctx.progress({ done: index + 1, total: paths.length, unit: 'files' })
  }
  return { outputs: { files: paths.length, bytes } }
}
