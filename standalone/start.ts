import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type App, createApp } from '../control-plane/app.ts'
import { createPlatform } from '../control-plane/tenants/bootstrap.ts'
import type { Log } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { makeApiKey } from '../shared/secrets/api-key.ts'
import { adopt } from '../shared/runs/ledger.ts'
import { serveReads } from '../workers/reader/serve-reads.ts'
import { startWorker, type Worker, type WorkerOptions } from '../workers/worker.ts'
import { keepAnchors } from './audit-anchors.ts'
import { type HttpServer, serveHttp } from './http-server.ts'
import { lockFolder } from './lock.ts'
import { openPorts } from './ports.ts'

const defaultPort = 8080

/** How to run everything in one process. Without a port 8080, or a free one when that is taken. */
export type StandaloneOptions = Omit<WorkerOptions, 'dataDir'> & {
  dataDir: string
  host: string
  port?: number | undefined
  logLevel: string
  development: boolean
  /** Page that takes one-time links; without one mail holds the code alone. */
  accountUrl?: string | undefined
}

/** Both sides of the house, running. */
export type Standalone = {
  url: string
  dataDir: string
  /** API key of the platform: onboards tenants. */
  platformKey: string
  ports: Ports
  worker: Worker
  /** Stops taking work, gives running steps `graceMs`, and leaves the folder. */
  stop(graceMs: number): Promise<void>
}

/**
 * Starts control plane and worker over embedded PostgreSQL in `dataDir`, and goes on with what was unfinished. `open`
 * opens what they work with; the default is the embedded mode's own.
 */
export async function startStandalone(
  options: StandaloneOptions,
  open: typeof openPorts = openPorts,
): Promise<Standalone> {
  const dataDir = resolve(options.dataDir)
  const lock = await lockFolder(dataDir)
  const { ports, close } = await open(dataDir, options.logLevel)
  const platformKey = await platformKeyOf(ports, join(dataDir, 'platform-api-key'))
  let worker: Worker | undefined
  const reads = await serveReads(() => worker, { host: '127.0.0.1', port: 0, ports })
  const working = (worker = startWorker(ports, { ...options, dataDir, readerUrl: reads.url }))
  // One process owns every lease here: what another owner held is given back at once instead of after its lease.
  await adopt(ports.db, working.id)
  const anchors = keepAnchors(ports.db, dataDir, ports)
  const app = createApp({
    ports: async () => ({ ports }),
    development: options.development,
    allowedOrigins: [],
    identity: { accountUrl: options.accountUrl },
  })
  const leave = async (graceMs: number): Promise<void> => {
    await reads.stop()
    await working.stop(graceMs)
    await anchors.stop()
    await close()
    lock[Symbol.dispose]()
  }
  const server = await listen(app, options, ports.log).catch(async (error: unknown) => {
    await leave(0)
    throw error
  })
  return {
    url: server.url,
    dataDir,
    platformKey,
    ports,
    worker: working,
    async stop(graceMs) {
      await server.stop()
      await leave(graceMs)
    },
  }
}

// Made once and kept beside the data, for the owner's eyes only; the file is whole before the database knows the key.
async function platformKeyOf(ports: Ports, file: string): Promise<string> {
  if (!existsSync(file)) {
    writeFileSync(`${file}.new`, (await makeApiKey()).token, { mode: 0o600 })
    renameSync(`${file}.new`, file)
  }
  const token = readFileSync(file, 'utf8').trim()
  await createPlatform(ports, token)
  return token
}

async function listen(app: App, options: StandaloneOptions, log: Log): Promise<HttpServer> {
  const { host, port = defaultPort } = options
  try {
    return await serveHttp(app, { host, port, log })
  } catch (error) {
    // Without a wish for a port a taken one is no reason to fail.
    const isTaken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'
    if (options.port !== undefined || !isTaken) throw error
    return serveHttp(app, { host, port: 0, log })
  }
}
