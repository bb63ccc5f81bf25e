import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../../shared/errors.ts'
import {
  hostKeyFingerprint,
  makeHostKey,
  type SftpServer,
  type SftpServerOptions,
  startSftpServer,
} from '../sftp-server.ts'
import type { openMemory } from './memory.ts'

/** The far end of one tenant: an SFTP server over a folder. */
export type Partner = { server: SftpServer; folder: string; username: string; password: string }

/** Starts each tenant's partner on the port and with the host key that it had before. */
export async function startPartners(
  dataDir: string,
  tenantIds: readonly string[],
  memory: ReturnType<typeof openMemory>,
): Promise<Map<string, Partner>> {
  const partners = new Map<string, Partner>()
  for (const tenantId of tenantIds) {
    const folder = join(dataDir, 'partners', tenantId)
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const known = memory.value.partners[tenantId] ?? {
      port: 0,
      hostKey: makeHostKey(),
      password: randomBytes(18).toString('base64url'),
    }
    const server = await listen({
      root: folder,
      username: tenantId,
      password: known.password,
      port: known.port,
      hostKey: known.hostKey,
    })
    if (server.hostKeyFingerprint !== hostKeyFingerprint(known.hostKey))
      throw new Error('the partner shows another host key')
    memory.change({ partners: { ...memory.value.partners, [tenantId]: { ...known, port: server.port } } })
    partners.set(tenantId, { server, folder, username: tenantId, password: known.password })
  }
  return partners
}

// The port stands in the tenant's credential, so another one would be of no use.
async function listen(options: SftpServerOptions): Promise<SftpServer> {
  try {
    return await startSftpServer(options)
  } catch (cause) {
    throw new AppError('CONFLICT', `The demo's partner server cannot listen on port ${options.port}.`, {
      hint: 'Free that port, or start with another folder: TRIBUTARY_DATA_DIR.',
      cause,
    })
  }
}
