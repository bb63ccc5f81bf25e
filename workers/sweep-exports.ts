import { readdir, rm, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Folder of the tenant in which its export stands until its data are removed. */
export const exportFolder = 'offboarding-export'

/** How long the export of a tenant that left is kept for the operator to hand over, in days. */
export const exportKeptDays = 30

/** Removes exports that are older than that, and what is then an empty folder. Answers how many were removed. */
export async function sweepExports(dataDir: string, now: Date): Promise<number> {
  const root = join(dataDir, 'tenants')
  let removed = 0
  for (const tenant of await readdir(root).catch(() => [])) {
    const folder = join(root, tenant, 'export')
    const made = await stat(folder).catch(() => undefined)
    if (!made?.isDirectory() || now.getTime() - made.mtimeMs < exportKeptDays * 86_400_000) continue
    await rm(folder, { recursive: true, force: true })
    await rmdir(join(root, tenant)).catch(() => undefined)
    removed++
  }
  return removed
}
