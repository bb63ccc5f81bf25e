import closeWithGrace from 'close-with-grace'
import { createApp } from '../control-plane/app.ts'
import { createPlatform } from '../control-plane/tenants/bootstrap.ts'
import { systemClock } from '../shared/clock.ts'
import { readEnv } from '../shared/env.ts'
import { AppError } from '../shared/errors.ts'
import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'
import { senderOf } from '../shared/qstash/receive-delivery.ts'
import { redisRateLimit } from '../shared/redis/rate-limit.ts'
import { liveSecrets } from '../shared/redact.ts'
import { secretBox } from '../shared/secrets/secret-box.ts'
import { signingKeys } from '../shared/secrets/signing-keys.ts'
import { qstashWakers } from '../shared/waking/qstash-waker.ts'
import { openPg } from '../workers/db/pg.ts'
import { openSignals } from '../workers/db/signals.ts'
import { untilReady } from '../workers/db/until-ready.ts'
import { databaseCheck } from '../workers/health/database-check.ts'
import { fleetMetrics, type Metric, processMetrics } from '../workers/health/metrics.ts'
import { type Health, readiness, serveHealth } from '../workers/health/serve-health.ts'
import { shareOver } from '../workers/redis/share.ts'
import { processLog } from '../workers/process-log.ts'
import { controlPlaneEnv } from './control-plane-env.ts'
import { type HttpServer, serveHttp } from './http-server.ts'

const help = `The control plane of Tributary on Node and PostgreSQL.

  npm run control-plane              start, stay up until SIGTERM
  npm run control-plane -- --help    this text

Environment: DATABASE_URL and PLATFORM_KEYS, and what .env.example tells beside them (HOST, PORT, PLATFORM_API_KEY,
ALLOWED_ORIGINS, ACCOUNT_URL, REDIS_URL, QSTASH_TOKEN and those beside it, HEALTH_HOST, HEALTH_PORT, STOP_GRACE,
LOG_LEVEL).

SIGTERM and SIGINT: /readyz turns to 503, streams end (clients resume elsewhere), requests get STOP_GRACE, exit 0. A
second one ends it at once.
`

const usualHealthPort = 8081
const connectionsMax = 20

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof AppError ? `${error.code}: ${error.message}\n${error.hint}` : describeError(error))
  process.exit(1)
})

async function main(args: string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) return void process.stdout.write(help)
  if (args[0] !== undefined) throw new AppError('BAD_INPUT', `There is no option ${args[0]}.`, { hint: help })
  const env = readEnv(controlPlaneEnv, process.env)
  const log = processLog(env.LOG_LEVEL)
  liveSecrets.guard(decodeURIComponent(new URL(env.DATABASE_URL).password))
  liveSecrets.guard(env.PLATFORM_API_KEY)
  const { db, close } = openPg(env.DATABASE_URL, connectionsMax)
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

  let isUp = false
  let server: HttpServer | undefined
  const stopping = new AbortController()
  const fleet = fleetMetrics(db, 'api')
  const health: Health = {
    checks: async () => [
      await databaseCheck(db, 'api', systemClock),
      stopping.signal.aborted
        ? { name: 'serving', ok: false, why: 'It is stopping.' }
        : { name: 'serving', ok: isUp, ...(isUp ? {} : { why: 'It waits for the database.' }) },
    ],
    metrics: async () => [
      ...processMetrics(),
      ...ownMetrics(server?.streams() ?? 0, signals.isListening()),
      ...shared.metrics(),
      ...(await fleet()),
    ],
  }
  const app = createApp({
    ports: async () => ({ ports }),
    development: false,
    allowedOrigins: env.ALLOWED_ORIGINS,
    identity: { accountUrl: env.ACCOUNT_URL },
    ticks: senderOf(env, env.TICK_URL),
    failedWakes: senderOf(env, env.WAKE_FAILED_URL),
    ...(shared.redis ? { rateLimit: redisRateLimit(shared.redis, ports.signing) } : {}),
  })
  const operators = await serveHealth(health, {
    host: env.HEALTH_HOST,
    port: env.HEALTH_PORT,
    usualPort: usualHealthPort,
    log,
  })
  const withReadiness: Parameters<typeof serveHttp>[0] = {
    async fetch(request, host) {
      const { pathname } = new URL(request.url)
      // Whoever spreads requests over several control planes asks here; metrics are on the operators' port alone.
      if (pathname === '/readyz') {
        const { status } = await readiness(health)
        return Response.json({ ready: status === 200 }, { status })
      }
      return isUp || pathname === '/healthz' ? app.fetch(request, host) : notYet()
    },
  }
  server = await serveHttp(withReadiness, { host: env.HOST, port: env.PORT, log })
  closeWithGrace({ delay: env.STOP_GRACE + 10_000 }, async ({ err, signal }) => {
    stopping.abort()
    if (err) log.error('control_plane.crashed', { error: describeError(err) })
    log.info('control_plane.stopping', { signal: signal ?? 'none' })
    await server?.stop(env.STOP_GRACE)
    await operators.stop()
    await shared.close()
    await signals.close()
    await close()
    log.info('control_plane.stopped')
  })

  log.info('control_plane.starting', { url: server.url, health: operators.url })
  await untilReady(ports, 'api', stopping.signal)
  if (stopping.signal.aborted) return
  if (env.PLATFORM_API_KEY !== undefined) await createPlatform(ports, env.PLATFORM_API_KEY)
  isUp = true
  log.info('control_plane.up', { url: server.url })
}

const ownMetrics = (streams: number, isListening: boolean): Metric[] => [
  {
    name: 'control_plane_streams',
    help: 'Subscriptions that are open.',
    type: 'gauge',
    values: { '': streams },
  },
  {
    name: 'control_plane_listening',
    help: '1 while it hears hints of workers; without them events are up to 5 s late.',
    type: 'gauge',
    values: { '': isListening ? 1 : 0 },
  },
]

function notYet(): Response {
  const { code, hint, message, status } = new AppError('UNAVAILABLE', 'The control plane waits for its database.')
  return Response.json({ errors: [{ message, extensions: { code, hint } }] }, { status })
}
