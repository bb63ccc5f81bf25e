import { randomUUID } from 'node:crypto'
import { appendFileSync, mkdirSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'

// Where a sweep for canaries wants to have what a test leaves; empty when nobody sweeps.
const keptIn = process.env['CANARY_DIR'] ?? ''

/** True when what tests leave is swept for canaries afterwards. */
export const isSwept = keptIn !== ''

const place = (kind: string, name: string): string => {
  const folder = join(keptIn, kind)
  mkdirSync(folder, { recursive: true })
  return join(folder, name)
}

/** Keeps a line of what a test saw, for a sweep. */
export function keepLine(kind: 'answers' | 'logs' | 'wakes', line: string): void {
  if (isSwept) appendFileSync(place(kind, `${process.pid}.txt`), `${line}\n`)
}

/** Keeps a file of its own, for a sweep. */
export async function keepBytes(kind: 'databases', ending: string, bytes: Buffer): Promise<void> {
  if (isSwept) await writeFile(place(kind, `${randomUUID()}.${ending}`), bytes)
}

/** Removes a folder that a test is done with, or leaves it for a sweep. */
export async function leave(folder: string): Promise<void> {
  if (isSwept) await rename(folder, place('folders', basename(folder)))
  else await rm(folder, { recursive: true, force: true })
}
