import { mkdir } from 'node:fs/promises'
import { z } from 'zod'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'

/** Folders that every tenant has: files to read, and files that pipelines write. */
const folders = ['in', 'out']

/** `tenant.provision_folders`: the tenant's own folders are there; those that exist stay as they are. */
export default defineProcessor({
  type: 'tenant.provision_folders',
  title: 'Prepare the folders',
  description: 'Makes the folders in and out of a new tenant.',
  queue: 'export',
  settings: z.strictObject({}),
  credentialProviders: [],
  writes: false,
  run: provisionFolders,
})

async function provisionFolders(ctx: StepContext): Promise<StepResult> {
  for (const folder of folders) await mkdir(await ctx.files.resolve(folder), { recursive: true, mode: 0o700 })
  return { outputs: { folders } }
}
