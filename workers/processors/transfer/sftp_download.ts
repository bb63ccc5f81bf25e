import { lstat, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { sftpShape } from '../../../schema/config/credentials.ts'
import { duration, durationMs } from '../../../schema/config/duration.ts'
import { AppError } from '../../../shared/errors.ts'
import { throwIfAborted } from '../../aborted.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { hashFile } from '../../delivery/hash-file.ts'
import { partName, sweepParts } from '../../delivery/part-files.ts'
import { type After, clearRemote, fetchFile, findRemote, type RemoteFile } from '../../delivery/sftp-fetch.ts'
import { openSftp, type SftpSession } from '../../delivery/sftp-session.ts'
import { attemptOf } from '../../lake/destination.ts'
import type { Connection } from '../../lake/connection.ts'
import { type FetchedFile, findDownload, noteDownload } from '../../lake/download-receipt.ts'
import { measureStorage } from '../../measure-storage.ts'

const remotePath = z
  .string()
  .min(1)
  .max(1024)
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  .regex(/^[^\u0000-\u001f\u007f]*$/, 'must not hold control characters')

const settingsShape = z.strictObject({
  source: z.union([
    z.strictObject({
      path: remotePath.describe("One file on the server, taken literally; relative to the user's home, or absolute."),
    }),
    z.strictObject({
      pattern: remotePath.describe('Folder and name on the server; `*` and `?` may stand in the name.'),
      files_max: z.int().min(1).max(1000).default(100).describe('More files than this are refused.'),
    }),
  ]),
  destination: z
    .strictObject({
      directory: z
        .string()
        .min(1)
        .max(1024)
        .default('.')
        .describe('In the tenant folder, made when it is missing; files keep their names and replace those of before.'),
    })
    .prefault({}),
  bytes_max: z
    .int()
    .min(1)
    .optional()
    .describe('More bytes than this, all files together, are refused; never more than the plan has left.'),
  settle: duration.default('1s').describe('How long size and time of a file must stay the same before it is read.'),
  after: z
    .union([z.enum(['keep', 'delete']), z.strictObject({ move_to: remotePath })])
    .default('keep')
    .describe('What becomes of the files on the server, once they stand in the tenant folder for good.'),
})
type Settings = z.output<typeof settingsShape>

/** `transfer.sftp_download`: files of an SFTP server whose key is pinned into the tenant's folder, whole or not at all. */
export default defineProcessor({
  type: 'transfer.sftp_download',
  title: 'Download by SFTP',
  description: 'Fetches files from an SFTP server, and then leaves, moves or deletes them there.',
  queue: 'ingest',
  settings: settingsShape,
  credentialProviders: ['sftp'],
  run: download,
})

async function download(ctx: StepContext, settings: Settings): Promise<StepResult> {
  const secret = ctx.secret(sftpShape)
  const after = afterOf(ctx, settings)
  using connection = await ctx.lake.connect(ctx.signal)
  const receipts = await findDownload(connection, attemptOf(ctx))
  const known = await intact(ctx, receipts.now)
  if (known && after === 'keep') return resultOf(known)
  await using session = await openSftp(secret, ctx)
  const fetched = known ?? (await fetchNew(ctx, settings, session, connection, receipts.before))
  for (const file of fetched) {
    const remote = { ...file, name: file.remotePath.slice(file.remotePath.lastIndexOf('/') + 1) }
    if (!(await clearRemote(session, remote, after)))
      ctx.log('warn', `${file.remotePath} is another file by now and is left on the server.`)
  }
  return resultOf(fetched)
}

function resultOf(fetched: readonly FetchedFile[]): StepResult {
  const files = fetched.map(({ path, remotePath: from, bytes, sha256 }) => ({ path, remote_path: from, bytes, sha256 }))
  return { outputs: { files, bytes: bytesOf(files), path: files[0]?.path ?? null } }
}

// A step that is done anew finds nothing where it has moved or deleted what it fetched: that is still the whole of it.
async function fetchNew(
  ctx: StepContext,
  settings: Settings,
  session: SftpSession,
  connection: Connection,
  before: FetchedFile[] | undefined,
): Promise<FetchedFile[]> {
  const { source } = settings
  const wanted = 'path' in source ? source : { pattern: source.pattern, filesMax: source.files_max }
  const found = await findRemote(session, wanted, { settleMs: durationMs(settings.settle), signal: ctx.signal })
  if (found.length === 0) {
    const earlier = await intact(ctx, before)
    if (earlier) return earlier
    throw new AppError('FILE_MISSING', `The server has no file ${'path' in source ? source.path : source.pattern}.`, {
      hint: 'Have it put there, or correct the path.',
    })
  }
  await refuseTooMuch(ctx, settings, bytesOf(found))
  const fetched = await fetchAll(ctx, settings.destination.directory, session, found)
  await noteDownload(connection, attemptOf(ctx), fetched)
  return fetched
}

async function fetchAll(
  ctx: StepContext,
  directory: string,
  session: SftpSession,
  found: readonly RemoteFile[],
): Promise<FetchedFile[]> {
  const total = bytesOf(found)
  const parts: { part: string; target: string }[] = []
  const fetched: FetchedFile[] = []
  let done = 0
  try {
    for (const file of found) {
      const path = directory === '.' ? file.name : `${directory.replace(/\/$/, '')}/${file.name}`
      const target = await ctx.files.prepare(path)
      await refuseFolder(target, path)
      await sweepParts(target)
      const part = partName(target, ctx.step.fence)
      parts.push({ part, target })
      const digest = await fetchFile(session, file, part, (bytes) =>
        ctx.progress({ done: (done += bytes), total, unit: 'bytes', note: `fetching ${file.name}` }),
      )
      fetched.push({ path, remotePath: file.remotePath, modifiedAt: file.modifiedAt, ...digest })
    }
    throwIfAborted(ctx.signal)
    // Nothing stands under a final name before all files are whole.
    for (const { part, target } of parts) await rename(part, target)
    // A power cut must not take the new names away after the server has deleted its files.
    for (const folder of new Set(parts.map(({ target }) => dirname(target)))) await syncFolder(folder)
    return fetched
  } catch (error) {
    for (const { part } of parts) await rm(part, { force: true })
    throw error
  }
}

/** The files when each still stands in the tenant's folder as it was fetched. */
async function intact(ctx: StepContext, files: FetchedFile[] | undefined): Promise<FetchedFile[] | undefined> {
  for (const file of files ?? []) {
    const absolute = await ctx.files.resolve(file.path)
    const digest = await hashFile(absolute, ctx.signal).catch((error: unknown) => {
      if (error instanceof AppError && error.code === 'FILE_MISSING') return undefined
      throw error
    })
    if (digest?.sha256 !== file.sha256) return undefined
  }
  return files
}

async function refuseTooMuch(ctx: StepContext, { bytes_max }: Settings, bytes: number): Promise<void> {
  if (bytes_max !== undefined && bytes > bytes_max)
    throw new AppError('TOO_LARGE', `The files have ${bytes} bytes; ${bytes_max} are taken at most.`, {
      hint: 'Raise bytes_max, or have less put there at once.',
    })
  const left = ctx.limits.diskBytes - (await measureStorage(dirname(ctx.files.root)))
  if (bytes > left)
    throw new AppError('QUOTA_EXCEEDED', `The files have ${bytes} bytes; the storage has ${Math.max(0, left)} left.`, {
      retry: 'never',
      hint: 'Delete files (file.delete) or raise the plan, then retry the step.',
    })
}

function afterOf(ctx: StepContext, { source, after }: Settings): After {
  if (typeof after === 'string') return after
  const from = 'path' in source ? source.path : source.pattern
  const folder = (path: string): string => path.replace(/^(\.\/)+/, '').replace(/\/+$/, '') || '.'
  if (folder(from.slice(0, Math.max(0, from.lastIndexOf('/')))) === folder(after.move_to))
    throw new AppError('CONFIG_INVALID', 'move_to is the folder of the files: they would be found again.')
  return { moveTo: after.move_to, suffix: ctx.run.id }
}

async function refuseFolder(target: string, path: string): Promise<void> {
  const there = await lstat(target).catch(() => undefined)
  if (there?.isDirectory()) throw new AppError('PATH_INVALID', `There is a folder of the name ${path}.`)
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

const bytesOf = (files: readonly { bytes: number }[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0)
