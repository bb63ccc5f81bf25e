import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'

/** Where an attempt writes before the file gets its name. */
export const partName = (path: string, fence: bigint): string => `${path}.part-${fence}`

/** The name of a numbered file: `out/name.csv` and 1 give `out/name-0001.csv`. */
export const splitName = (path: string, number: number): string => splitForm(path, String(number).padStart(4, '0'))

/** A pattern that matches the numbered files of a path and nothing that is being written. */
export const splitPattern = (path: string): string => splitForm(path, '????')

function splitForm(path: string, mark: string): string {
  const ending = extname(path)
  return `${path.slice(0, path.length - ending.length)}-${mark}${ending}`
}

/**
 * Removes what dead attempts left beside a file: parts of it and of its numbered files. With `keep`, also numbered files
 * above that number, which an earlier and longer export made. `path` is absolute.
 */
export async function sweepParts(path: string, keep?: number): Promise<void> {
  const folder = dirname(path)
  const ending = extname(path)
  const stem = basename(path, ending)
  for (const name of await readdir(folder)) {
    const rest = name.startsWith(stem) ? name.slice(stem.length) : undefined
    const match = rest === undefined ? null : /^(?:-(\d{4}))?(\.(?!part-\d+$)[^.]*)?(\.part-\d+)?$/.exec(rest)
    if (!match || (match[2] ?? '') !== ending) continue
    const isPart = match[3] !== undefined
    const isBeyond = keep !== undefined && match[1] !== undefined && Number(match[1]) > keep
    if (isPart || isBeyond) await rm(join(folder, name), { force: true })
  }
}
