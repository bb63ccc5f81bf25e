import { stat } from 'node:fs/promises'
import { z } from 'zod'
import { sftpShape } from '../../../schema/config/credentials.ts'
import { AppError } from '../../../shared/errors.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { deliverFiles, type ToDeliver } from '../../delivery/sftp.ts'

const filesMax = 10_000

const settingsShape = z.strictObject({
  source: z.strictObject({
    paths: z.array(z.string().min(1)).min(1).max(100).describe('Files or patterns in the tenant folder.'),
  }),
  destination: z.strictObject({
    directory: z
      .string()
      .max(1024)
      // oxlint-disable-next-line no-control-regex -- control characters are what is refused
      .regex(/^[^\u0000-\u001f\u007f]*$/, 'must not hold control characters')
      .default('.')
      .describe("On the server; relative to the user's home, or absolute."),
    create_directories: z.boolean().default(false).describe('Make the directory when it is missing.'),
    atomic_rename: z.boolean().default(true).describe('Send under a part name and rename once verified.'),
    verify: z
      .enum(['size', 'size_and_sha256'])
      .default('size_and_sha256')
      .describe('size trusts the server with the bytes; size_and_sha256 reads them back.'),
    overwrite: z.boolean().default(true).describe('Replace a file of the same name with other content.'),
  }),
})

/** `transfer.sftp_upload`: files of the tenant folder to an SFTP server whose key is pinned, each one verified there. */
export default defineProcessor({
  type: 'transfer.sftp_upload',
  title: 'Upload by SFTP',
  description: 'Delivers files to an SFTP server and verifies size and SHA-256 there before they get their final name.',
  queue: 'delivery',
  settings: settingsShape,
  credentialProviders: ['sftp'],
  writes: false,
  run: upload,
})

async function upload(ctx: StepContext, settings: z.output<typeof settingsShape>): Promise<StepResult> {
  const secret = ctx.secret(sftpShape)
  const { destination } = settings
  const files = await filesToDeliver(ctx, settings.source.paths)
  let total = 0
  for (const file of files) total += (await stat(file.absolute)).size
  let done = 0
  const delivered = await deliverFiles(
    secret,
    files,
    {
      directory: destination.directory,
      createDirectories: destination.create_directories,
      atomicRename: destination.atomic_rename,
      verify: destination.verify,
      overwrite: destination.overwrite,
    },
    {
      allowPrivateNetwork: ctx.allowPrivateNetwork,
      signal: ctx.signal,
      fence: ctx.step.fence,
      onBytes: (bytes, note) =>
        ctx.progress({ done: (done = Math.min(done + bytes, total)), total, unit: 'bytes', note }),
    },
  )
  const sent = delivered.map(({ path, remotePath, bytes, sha256 }) => ({
    path,
    remote_path: remotePath,
    bytes,
    sha256,
  }))
  return {
    outputs: {
      files: sent,
      bytes: sent.reduce((sum, file) => sum + file.bytes, 0),
      path: sent[0]?.remote_path ?? null,
    },
  }
}

async function filesToDeliver(ctx: StepContext, patterns: string[]): Promise<ToDeliver[]> {
  const paths = await ctx.files.match(patterns)
  if (paths.length === 0) throw new AppError('FILE_MISSING', `No file matches ${patterns.join(', ')}.`)
  if (paths.length > filesMax) throw new AppError('TOO_LARGE', `A step delivers at most ${filesMax} files.`)
  const files: ToDeliver[] = []
  for (const path of paths) files.push({ path, absolute: await ctx.files.resolve(path) })
  return files
}
