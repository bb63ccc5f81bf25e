import { open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../../../shared/errors.ts'
import { throwIfAborted } from '../../aborted.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { safeEntryName } from '../../delivery/entry-name.ts'
import { hashFile } from '../../delivery/hash-file.ts'
import { measureFile, readZip, writeZip, type ZipEntry, zipComment } from '../../delivery/zip.ts'

const filesMax = 10_000

const settingsShape = z.strictObject({
  source: z.strictObject({
    paths: z.array(z.string().min(1)).min(1).max(100).describe('Files or patterns in the tenant folder.'),
  }),
  destination: z.strictObject({
    path: z.string().min(1).describe('The archive to make. A file that is there is replaced.'),
    level: z.int().min(0).max(9).default(1).describe('0 stores, 1 is fast, 9 is small.'),
    delete_source: z.boolean().default(false).describe('Delete the files once the archive has been read back.'),
  }),
})
type Settings = z.output<typeof settingsShape>

/** A file to pack: its path in the tenant folder and its name in the archive. */
type Packed = { path: string; name: string }

/** `file.compress`: files of the tenant folder into one ZIP, read back before anything is deleted. */
export default defineProcessor({
  type: 'file.compress',
  title: 'Compress files',
  description: 'Packs files into one ZIP archive, reads it back, and deletes the files if asked.',
  queue: 'export',
  settings: settingsShape,
  credentialProviders: [],
  run: compress,
})

async function compress(ctx: StepContext, settings: Settings): Promise<StepResult> {
  const { path, delete_source } = settings.destination
  const target = await ctx.files.prepare(path)
  const found = await filesToPack(ctx, settings)
  const isRepeat = delete_source && (await isMadeHere(ctx, target, found.length))
  if (!isRepeat && found.length === 0)
    throw new AppError('FILE_MISSING', `No file matches ${settings.source.paths.join(', ')}.`)
  const entries = isRepeat ? await readZip(target, ctx.signal) : await pack(ctx, found, target, settings)
  if (delete_source) await deletePacked(ctx, found, entries, isRepeat)
  const { bytes, sha256 } = await hashFile(target, ctx.signal)
  return { outputs: { path, bytes, sha256, files: entries.length, entries: entries.map((entry) => entry.name) } }
}

/** Names in the archive are relative to the fixed part of the pattern: `out/*.csv` gives `a.csv`, `out/**` gives `x/a.csv`. */
async function filesToPack(ctx: StepContext, settings: Settings): Promise<Packed[]> {
  const { path: target } = settings.destination
  const taken = new Set<string>()
  const found = new Map<string, Packed>()
  for (const pattern of settings.source.paths) {
    const folder = fixedFolder(pattern)
    for (const path of await ctx.files.match([pattern])) {
      if (found.has(path) || isOwn(path, target)) continue
      found.set(path, { path, name: safeEntryName(path.slice(folder.length), taken) })
      if (found.size > filesMax) throw new AppError('TOO_LARGE', `An archive takes at most ${filesMax} files.`)
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function fixedFolder(pattern: string): string {
  const parts = pattern.split('/').filter((part) => part !== '.')
  const firstOpen = parts.findIndex((part) => /[*?[{(]/.test(part))
  const fixed = parts.slice(0, firstOpen === -1 ? -1 : firstOpen)
  return fixed.length ? `${fixed.join('/')}/` : ''
}

async function pack(ctx: StepContext, files: Packed[], target: string, settings: Settings): Promise<ZipEntry[]> {
  const part = `${target}.part-${ctx.step.fence}`
  await deleteOlderParts(ctx, target)
  try {
    const sources = await Promise.all(files.map(async (f) => ({ ...f, path: await ctx.files.resolve(f.path) })))
    let total = 0
    for (const source of sources) total += (await stat(source.path)).size
    let done = 0
    const written = await writeZip(part, sources, {
      level: settings.destination.level,
      comment: mark(ctx),
      signal: ctx.signal,
      onBytes: (bytes) => ctx.progress({ done: (done += bytes), total: Math.max(total, done), unit: 'bytes' }),
    })
    await publish(part, target, written, ctx.signal)
    return written
  } catch (error) {
    await rm(part, { force: true })
    throw diskFull(error)
  }
}

async function publish(part: string, target: string, written: ZipEntry[], signal: AbortSignal): Promise<void> {
  const file = await open(part, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
  const read = await readZip(part, signal)
  if (JSON.stringify(read) !== JSON.stringify(written))
    throw new AppError('VERIFY_FAILED', 'The archive holds other files than were packed.')
  await rename(part, target)
  // Without it a power cut could take the new name away after the sources are gone.
  const folder = await open(dirname(target), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

async function deletePacked(ctx: StepContext, found: Packed[], entries: ZipEntry[], isRepeat: boolean): Promise<void> {
  const packed = new Map(entries.map((entry) => [entry.name, entry]))
  for (const file of found) {
    throwIfAborted(ctx.signal)
    const path = await ctx.files.resolve(file.path)
    const entry = packed.get(file.name)
    // A new file may have taken the name of a packed one since the attempt before; after packing, its size must do.
    const now = isRepeat ? await measureFile(path, file.name) : { ...entry, bytes: (await stat(path)).size }
    if (entry && now.bytes === entry.bytes && now.crc32 === entry.crc32) await rm(path, { force: true })
    else ctx.log('warn', `${file.path} is not what the archive holds and is left in place.`)
  }
}

// With deletion a repeat may find some or none of its files: packing the rest would lose the deleted ones. A new cycle
// packs what was made anew; where nothing was, the archive of the cycle before is still the whole of it.
async function isMadeHere(ctx: StepContext, target: string, filesFound: number): Promise<boolean> {
  const comment = await zipComment(target)
  return comment === mark(ctx) || (filesFound === 0 && comment?.startsWith(`${ctx.run.id}/${ctx.step.key}/`) === true)
}

/** Which step made an archive, as its ZIP comment: equal for the attempts of one cycle of a step, and for no other. */
const mark = (ctx: StepContext): string => `${ctx.run.id}/${ctx.step.key}/${ctx.step.cycle}`

const isOwn = (path: string, target: string): boolean => path === target || partFence(path, target) !== undefined

function partFence(path: string, target: string): bigint | undefined {
  const digits = path.startsWith(`${target}.part-`) ? path.slice(target.length + 6) : ''
  return /^\d{1,19}$/.test(digits) ? BigInt(digits) : undefined
}

async function deleteOlderParts(ctx: StepContext, target: string): Promise<void> {
  for (const name of await readdir(dirname(target))) {
    const fence = partFence(name, basename(target))
    if (fence !== undefined && fence < ctx.step.fence) await rm(join(dirname(target), name), { force: true })
  }
}

function diskFull(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error
  return new AppError('DISK_FULL', 'There is no space left for the archive.', { cause: error })
}
