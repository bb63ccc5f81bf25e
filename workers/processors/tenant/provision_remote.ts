import { z } from 'zod'
import { sftpShape } from '../../../schema/config/credentials.ts'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'
import { deliverFiles } from '../../delivery/sftp.ts'

const settingsShape = z.strictObject({
  directory: z.string().min(1).max(512).describe('Folder on the server; made if it is not there.'),
})

/** `tenant.provision_remote`: log-in and folder on the tenant's SFTP server work. No file is sent. */
export default defineProcessor({
  type: 'tenant.provision_remote',
  title: 'Prepare the remote folder',
  description: 'Logs in to the SFTP server of a new tenant and makes its folder there.',
  queue: 'delivery',
  settings: settingsShape,
  credentialProviders: ['sftp'],
  writes: false,
  run: provisionRemote,
})

async function provisionRemote(ctx: StepContext, settings: z.output<typeof settingsShape>): Promise<StepResult> {
  await deliverFiles(
    ctx.secret(sftpShape),
    [],
    {
      directory: settings.directory,
      createDirectories: true,
      atomicRename: true,
      verify: 'size_and_sha256',
      overwrite: false,
    },
    {
      allowPrivateNetwork: ctx.allowPrivateNetwork,
      signal: ctx.signal,
      fence: ctx.step.fence,
      onBytes: () => undefined,
    },
  )
  return { outputs: { directory: settings.directory } }
}
