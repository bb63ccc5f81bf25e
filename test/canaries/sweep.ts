import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { finds, type Found, longestForm } from './needles.ts'

/** What a sweep came to: what stands where it must not, and what it saw, so that finding nothing can be trusted. */
export type Swept = { leaks: string[]; files: number; bytes: number; allowed: number }

/**
 * Reads every file under a folder and says where canaries and whole tokens stand, in whatever form. A tenant's rows may be
 * in its own folder and with its partner; a token is shown once to whoever made it, and where the embedded mode keeps
 * those of its owner. A secret may be nowhere.
 */
export async function sweep(folder: string): Promise<Swept> {
  const swept: Swept = { leaks: [], files: 0, bytes: 0, allowed: 0 }
  for (const path of await filesOf(folder)) {
    const name = relative(folder, path).split(sep).join('/')
    swept.files++
    swept.bytes += (await stat(path)).size
    for (const found of await findsIn(path)) {
      if (mayHold(name, found)) swept.allowed++
      else swept.leaks.push(`${name} at ${found.at}: a ${found.kind}, ${found.form}`)
    }
  }
  return swept
}

const rowsOfTenants = /(^|\/)(tenants|partners)\//
const tokensOfOwners = /^answers\/|(^|\/)(platform-api-key|demo\.json)$/

const mayHold = (name: string, { kind }: Found): boolean =>
  (kind === 'row' && rowsOfTenants.test(name)) || (kind === 'token' && tokensOfOwners.test(name))

// In pieces, each with the end of the one before, so that a file of any size is read in little memory.
async function findsIn(path: string): Promise<Found[]> {
  const found = new Map<string, Found>()
  let rest: Buffer<ArrayBufferLike> = Buffer.alloc(0)
  let start = 0
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    const piece = Buffer.concat([rest, chunk as Buffer])
    for (const one of finds(piece, true)) {
      const key = `${one.kind} ${one.form}`
      if (!found.has(key)) found.set(key, { ...one, at: start + one.at })
    }
    rest = piece.subarray(Math.max(0, piece.length - longestForm))
    start += piece.length - rest.length
  }
  return [...found.values()]
}

async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  const nested = await Promise.all(
    entries.map((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return filesOf(path)
      return entry.isFile() ? [path] : []
    }),
  )
  return nested.flat()
}
