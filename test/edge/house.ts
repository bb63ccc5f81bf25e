import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createApp } from '../../control-plane/app.ts'
import { createPlatform } from '../../control-plane/tenants/bootstrap.ts'
import { systemClock } from '../../shared/clock.ts'
import type { Ports } from '../../shared/ports.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { inProcessHub } from '../../shared/waking/hub.ts'
import { inProcessWaker } from '../../shared/waking/waker.ts'
import { serveHttp } from '../../standalone/http-server.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { processLog } from '../../workers/process-log.ts'
import { migratePg, openPg } from '../../workers/db/pg.ts'
import { shareOver } from '../../workers/redis/share.ts'
import { startWorker } from '../../workers/worker.ts'
import { startNeonProxy } from '../support/neon-proxy.ts'
import { startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'
import { type RedisBridge, startRedisBridge } from '../support/redis-bridge.ts'
import { onboard } from '../support/world.ts'

/**
 * What the edge runtimes are put in front of. `variables` is their environment, `token` a tenant's key, `redis` what they
 * share, where the machine has one.
 */
export type EdgeHouse = AsyncDisposable & {
  redis: RedisBridge | undefined
  variables: Record<string, string>
  token: string
  save: Awaited<ReturnType<typeof onboard>>['save']
}

/** PostgreSQL behind a stand-in for Neon, Redis behind one for Upstash, one Node worker, and a tenant that was onboarded through the API on Node. */
export async function edgeHouse(): Promise<EdgeHouse | { skipped: string }> {
  const postgres = await startPostgres()
  if ('skipped' in postgres) return postgres
  const dataDir = await mkdtemp(join(tmpdir(), 'edge-'))
  const proxy = await startNeonProxy(postgres.port, import.meta.filename)
  await migratePg(postgres.url, migrationsFolder)
  const { db, close } = openPg(postgres.url)
  const redisServer = await startRedis()
  const redis = 'skipped' in redisServer ? undefined : await startRedisBridge(redisServer.url)
  const shared = shareOver('url' in redisServer ? redisServer.url : undefined, inProcessHub(), {
    clock: systemClock,
    log: processLog('silent'),
  })
  const keys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
  const ports: Ports = {
    db,
    secrets: secretBox(keys),
    signing: signingKeys(keys),
    waker: inProcessWaker(),
    hub: shared.hub,
    clock: systemClock,
    log: processLog('silent'),
  }
  const worker = startWorker(ports, { dataDir, allowPrivateNetwork: true })
  const platform = await makeApiKey()
  await createPlatform(ports, platform.token)
  const server = await serveHttp(
    createApp({ ports: async () => ({ ports }), development: false, allowedOrigins: [] }),
    {
      host: '127.0.0.1',
      port: 0,
      log: ports.log,
    },
  )
  const tenant = await onboard({ url: server.url, platformKey: platform.token, dataDir }, 'edge_tenant')
  await server.stop()
  return {
    variables: {
      DATABASE_URL: postgres.url,
      NEON_PROXY: proxy.hostPort,
      PLATFORM_KEYS: JSON.stringify(keys),
      ...(redis ? { UPSTASH_REDIS_REST_URL: redis.url, UPSTASH_REDIS_REST_TOKEN: redis.token } : {}),
    },
    redis,
    token: tenant.token,
    save: tenant.save,
    async [Symbol.asyncDispose]() {
      await worker.stop(0)
      await shared.close()
      await redis?.[Symbol.asyncDispose]()
      if ('stop' in redisServer) await redisServer.stop()
      await close()
      proxy.stop()
      await postgres.stop()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}
