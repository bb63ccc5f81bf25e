import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createApp } from '../control-plane/app.ts'
import { createPlatform } from '../control-plane/tenants/bootstrap.ts'
import type { Ports } from '../shared/ports.ts'
import { adopt } from '../shared/runs/ledger.ts'
import { startWorker, type Worker, type WorkerOptions } from '../workers/worker.ts'
import { serveHttp } from './http-server.ts'
import { lockFolder } from './lock.ts'
import { openPorts } from './ports.ts'

/** How to run everything in one process. `port` 0 takes a free one. */
export type StandaloneOptions = Omit<WorkerOptions, 'dataDir'> & {
  dataDir: string
  host: string
  port: number
  logLevel: string
  development: boolean
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

/** Starts control plane and worker over embedded PostgreSQL in `dataDir`, and goes on with what was unfinished. */
export async function startStandalone(options: StandaloneOptions): Promise<Standalone> {
  const dataDir = resolve(options.dataDir)
  const lock = await lockFolder(dataDir)
  const { ports, close } = await openPorts(dataDir, options.logLevel)
  const platformKey = await platformKeyOf(ports, join(dataDir, 'platform-api-key'))
  const worker = startWorker(ports, { ...options, dataDir })
  // One process owns every lease here: what another owner held is given back at once instead of after its lease.
  await adopt(ports.db, worker.id)
  const app = createApp({
    ports: async () => ({ ports }),
    development: options.development,
    allowedOrigins: [],
  })
  const server = await serveHttp(app, { host: options.host, port: options.port, log: ports.log })
  return {
    url: server.url,
    dataDir,
    platformKey,
    ports,
    worker,
    async stop(graceMs) {
      await server.stop()
      await worker.stop(graceMs)
      await close()
      lock[Symbol.dispose]()
    },
  }
}

// Shown once by the platform and kept beside the data, for the owner's eyes only.
async function platformKeyOf(ports: Ports, file: string): Promise<string> {
  const created = await createPlatform(ports)
  if (created) writeFileSync(file, created.token, { mode: 0o600 })
  if (!existsSync(file)) throw new Error(`the platform's API key is not in ${file}`)
  return readFileSync(file, 'utf8').trim()
}
