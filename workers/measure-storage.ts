import { lstat, opendir } from 'node:fs/promises'
import { join } from 'node:path'

const filesMax = 200_000

/**
 * Bytes that a tenant stores: its lake with the log of it, and its files. Links count as themselves. Of more than 200,000
 * files the rest is not counted.
 */
export async function measureStorage(root: string): Promise<number> {
  let bytes = (await sizeOf(join(root, 'lake.duckdb'))) + (await sizeOf(join(root, 'lake.duckdb.wal')))
  const folders = [join(root, 'files'), join(root, 'lake')]
  let left = filesMax
  for (let folder = folders.pop(); folder !== undefined && left > 0; folder = folders.pop()) {
    const entries = await opendir(folder).catch(absent)
    if (!entries) continue
    for await (const entry of entries) {
      if (entry.isDirectory()) folders.push(join(folder, entry.name))
      else bytes += await sizeOf(join(folder, entry.name))
      if (--left <= 0) break
    }
  }
  return bytes
}

const sizeOf = async (path: string): Promise<number> => (await lstat(path).catch(absent))?.size ?? 0

// What was removed while we looked takes no room.
function absent(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
    return undefined
  throw error
}
