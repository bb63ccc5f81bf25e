import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import closeWithGrace from 'close-with-grace'
import { z } from 'zod'
import { queueTypes } from '../schema/states.ts'
import { systemClock } from '../shared/clock.ts'
import { readEnv } from '../shared/env.ts'
import { AppError } from '../shared/errors.ts'
import { tenantIdPattern } from '../shared/ids.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { liveSecrets } from '../shared/redact.ts'
import { secretBox } from '../shared/secrets/secret-box.ts'
import { signingKeys } from '../shared/secrets/signing-keys.ts'
import { senderOf } from '../shared/qstash/receive-delivery.ts'
import { qstashWakers } from '../shared/waking/qstash-waker.ts'
import { openPg } from './db/pg.ts'
import { openSignals } from './db/signals.ts'
import { untilReady } from './db/until-ready.ts'
import { workerEnv } from './env.ts'
import { folderId } from './folder-id.ts'
import { databaseCheck } from './health/database-check.ts'
import { fleetMetrics, processMetrics } from './health/metrics.ts'
import { serveHealth } from './health/serve-health.ts'
import { shareOver } from './redis/share.ts'
import { processLog } from './process-log.ts'
import { lakeOptions } from './lake/tenant-store.ts'
import { startWorker, type Worker } from './worker.ts'
import { type ReadServer, serveReads } from './reader/serve-reads.ts'
import { serveWakes, type WakeServer } from './waking/serve-wakes.ts'
import { wakeMetrics, workerMetrics } from './worker-metrics.ts'

const help = `A worker of Tributary: takes steps from PostgreSQL and runs each in its tenant's own process.

  npm run worker -- [options]

  --queues <a,b>     only these queues: ${queueTypes.join(', ')}. Default all
  --tenants <a,b>    only these tenants. Default all whose data is in its folder, or nowhere yet
  --capacity <n>     steps at once over all tenants, 1 to 256. Default WORKER_CAPACITY, or 4
  --help             this text

Environment: DATABASE_URL and PLATFORM_KEYS, and what .env.example tells beside them (TRIBUTARY_DATA_DIR, SMTP_URL,
SMTP_FROM, ALLOW_PRIVATE_NETWORK, REDIS_URL, QSTASH_TOKEN and those beside it, READER_HOST, READER_PORT, READER_URL, HEALTH_HOST,
HEALTH_PORT, STOP_GRACE, LOG_LEVEL).

SIGTERM and SIGINT: claims nothing more, gives running steps STOP_GRACE to end, gives the rest back, exits 0. A second
one ends it at once; what it had is another worker's when its leases run out.
`

const usualHealthPort = 8082

const list = <T>(item: z.ZodType<T, string>) =>
  z
    .string()
    .transform((text) => text.split(',').map((one) => one.trim()))
    .pipe(z.array(item).min(1))
const flags = z.object({
  queues: list(z.enum(queueTypes)).optional(),
  tenants: list(z.string().regex(tenantIdPattern, 'no tenant id')).optional(),
  capacity: z.coerce.number().int().min(1).max(256).optional(),
})

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof AppError ? `${error.code}: ${error.message}\n${error.hint}` : describeError(error))
  process.exit(1)
})

async function main(args: string[]): Promise<void> {
  const wanted = readFlags(args)
  if (wanted === undefined) return void process.stdout.write(help)
  const env = readEnv(workerEnv, process.env)
  const log = processLog(env.LOG_LEVEL)
  liveSecrets.guard(decodeURIComponent(new URL(env.DATABASE_URL).password))
  const lake = lakeOptions(env)
  liveSecrets.guard([lake.s3?.secret, decodeURIComponent(new URL(lake.catalogUrl ?? 'none:').password)])
  const dataDir = resolve(env.TRIBUTARY_DATA_DIR)
  const folder = await folderId(dataDir)
  const { capacity = env.WORKER_CAPACITY, ...serves } = wanted
  const { db, close } = openPg(env.DATABASE_URL, capacity + 6)
  const signals = openSignals(env.DATABASE_URL, { db, clock: systemClock, log })
  const shared = shareOver(env.REDIS_URL, signals.hub, { clock: systemClock, log })
  const ports: Ports = {
    db,
    secrets: secretBox(env.PLATFORM_KEYS),
    signing: signingKeys(env.PLATFORM_KEYS),
    waker: qstashWakers(env, { clock: systemClock, log })?.() ?? signals.waker,
    hub: shared.hub,
    clock: systemClock,
    log,
  }

  let worker: Worker | undefined
  let wakes: WakeServer | undefined
  let reads: ReadServer | undefined
  const stopping = new AbortController()
  const fleet = fleetMetrics(db, 'worker')
  const health = await serveHealth(
    {
      checks: async () => [
        await databaseCheck(db, 'worker', systemClock),
        claiming(worker, stopping.signal),
        worker && !worker.pool.canSpawn()
          ? { name: 'processes', ok: false, why: 'No process of a tenant can be started now.' }
          : { name: 'processes', ok: worker !== undefined },
      ],
      metrics: async () => [
        ...processMetrics(),
        ...(worker ? workerMetrics(worker.figures(), signals.isListening()) : []),
        ...(wakes ? wakeMetrics(wakes.figures()) : []),
        ...shared.metrics(),
        ...(await fleet()),
      ],
    },
    { host: env.HEALTH_HOST, port: env.HEALTH_PORT, usualPort: usualHealthPort, log },
  )
  const leave = async (): Promise<void> => {
    await wakes?.stop()
    await reads?.stop()
    await worker?.stop(env.STOP_GRACE)
    await health.stop()
    await shared.close()
    await signals.close()
    await close()
  }
  // Beyond the grace there is time to give back what is left; a database that is away then must not hold the end up.
  closeWithGrace({ delay: env.STOP_GRACE + 20_000 }, async ({ err, signal }) => {
    stopping.abort()
    if (err) log.error('worker.crashed', { error: describeError(err) })
    log.info('worker.stopping', { signal: signal ?? 'none', running: worker?.figures().running ?? 0 })
    await leave()
    log.info('worker.stopped')
  })

  const sender = senderOf(env, env.WAKE_URL)
  if (sender)
    wakes = await serveWakes(
      {
        isTaking: () => worker !== undefined && !stopping.signal.aborted,
        wake: async (_message, signal) => worker?.drained(signal),
        again: (message) => ports.waker.wake(message),
      },
      { host: env.WAKE_HOST, port: env.WAKE_PORT, holdMs: env.WAKE_HOLD, sender, ports },
    )
  // Where QStash wakes, the control plane is elsewhere: without an address it finds no door on this machine's loopback.
  if (env.READER_URL !== undefined || !sender)
    reads = await serveReads(() => worker, {
      host: env.READER_HOST,
      port: env.READER_PORT,
      url: env.READER_URL,
      ports,
    })
  log.info('worker.starting', {
    health: health.url,
    dataDir,
    folder,
    ...(wakes ? { wakes: wakes.url } : {}),
    ...(reads ? { reads: reads.url } : {}),
  })
  await untilReady(ports, 'worker', stopping.signal)
  if (stopping.signal.aborted) return
  worker = startWorker(ports, {
    ...serves,
    dataDir,
    folder,
    capacity,
    lake,
    readerUrl: reads?.url,
    allowPrivateNetwork: env.ALLOW_PRIVATE_NETWORK,
    mail: env.SMTP_URL && env.SMTP_FROM ? { url: env.SMTP_URL, from: env.SMTP_FROM } : undefined,
  })
  log.info('worker.up', { worker: worker.id, capacity, ...serves })
}

function claiming(worker: Worker | undefined, stopping: AbortSignal): { name: string; ok: boolean; why?: string } {
  if (stopping.aborted) return { name: 'claiming', ok: false, why: 'It is stopping.' }
  return worker ? { name: 'claiming', ok: true } : { name: 'claiming', ok: false, why: 'It waits for the database.' }
}

// Undefined when help is asked for.
function readFlags(args: string[]): z.output<typeof flags> | undefined {
  const options = {
    queues: { type: 'string' },
    tenants: { type: 'string' },
    capacity: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  } as const
  const hint = 'See: npm run worker -- --help'
  try {
    const { values } = parseArgs({ args, options })
    if (values.help) return undefined
    const parsed = flags.safeParse(values)
    if (parsed.success) return parsed.data
    const faults = parsed.error.issues.map(({ path, message }) => `--${path[0]?.toString() ?? ''}: ${message}`)
    throw new AppError('BAD_INPUT', faults.join('\n'), { hint })
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('BAD_INPUT', error instanceof Error ? error.message : 'The options cannot be read.', { hint })
  }
}
