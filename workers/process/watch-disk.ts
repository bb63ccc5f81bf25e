import { lstat, opendir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProcessLimits } from '../define.ts'
import type { Store } from '../lake/attach.ts'
import type { Binding } from './messages.ts'

// A step that writes as fast as the disk takes it fills some hundred MB between two looks.
const lookEveryMs = 500
// A tenant that is at its limit may still delete, which writes a little first.
const slackBytes = 64 * 2 ** 20

/**
 * Watches what a tenant's process writes: calls `overrun` once when its tables, or its scratch files, have grown beyond
 * `diskBytes`; the engine has no limit of its own for a database file. Tables that were larger from the start may
 * grow by 64 MiB. Answers how to stop watching.
 */
export async function watchDisk(
  { store, workRoot, limits }: Pick<Binding, 'store' | 'workRoot' | 'limits'>,
  overrun: () => void,
): Promise<() => void> {
  const allowed = await allowedBytes(store, limits)
  let isLooking = false
  const look = async (): Promise<void> => {
    const [tables, scratch] = await Promise.all([sizeOfTables(store), sizeBelow(workRoot)])
    if (tables <= allowed && scratch <= limits.diskBytes + slackBytes) return
    clearInterval(timer)
    overrun()
  }
  const timer = setInterval(() => {
    if (isLooking) return
    isLooking = true
    // What cannot be looked at now is looked at again in half a second.
    look()
      .catch(() => undefined)
      .finally(() => (isLooking = false))
  }, lookEveryMs)
  timer.unref()
  return () => clearInterval(timer)
}

/**
 * How large the tables of a tenant, in one file or several, may grow while its process lives: to what the plan gives, or by
 * 64 MiB beyond what they are when they are larger already, for whoever deletes writes first.
 */
export async function allowedBytes(store: Store, { diskBytes }: Pick<ProcessLimits, 'diskBytes'>): Promise<number> {
  return Math.max(diskBytes, await sizeOfTables(store)) + slackBytes
}

// What lies in an object store is none of this machine's.
async function sizeOfTables({ file, ducklake }: Store): Promise<number> {
  if (ducklake) return ducklake.data.startsWith('s3://') ? 0 : await sizeBelow(ducklake.data)
  return (await sizeOf(file)) + (await sizeOf(`${file}.wal`))
}

const sizeOf = async (path: string): Promise<number> => (await lstat(path).catch(() => undefined))?.size ?? 0

async function sizeBelow(root: string): Promise<number> {
  let bytes = 0
  const folders = [root]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop())
    for await (const entry of await opendir(folder).catch(() => [])) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) folders.push(path)
      else bytes += await sizeOf(path)
    }
  return bytes
}
