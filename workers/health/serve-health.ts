import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { AppError } from '../../shared/errors.ts'
import { describeError, type Log } from '../../shared/log.ts'
import { listen } from '../listen.ts'
import { type Metric, metricsText } from './metrics.ts'

/** A condition of being ready; `why` says what is missing. */
export type Check = { name: string; ok: boolean; why?: string }

/** What a process says of itself. */
export type Health = { checks(): Promise<Check[]>; metrics(): Promise<Metric[]> }

/** A listening server. */
export type HealthServer = { url: string; stop(): Promise<void> }

/**
 * Serves `/healthz` (the process lives), `/readyz` (503 until every check holds) and `/metrics`, to operators: put it on
 * no address that strangers reach. Without a port `usualPort`, or a free one when that is taken.
 */
export async function serveHealth(
  health: Health,
  options: { host: string; port: number | undefined; usualPort: number; log: Log },
): Promise<HealthServer> {
  const { host, port, usualPort, log } = options
  const server = createServer((request, response) => {
    answer(health, request.method ?? '', request.url ?? '').then(
      ({ status, type, body }) => {
        response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' })
        response.end(request.method === 'HEAD' ? undefined : body)
      },
      (error: unknown) => {
        log.warn('health.request', { error: describeError(error) })
        response.writeHead(503, { 'content-type': 'text/plain' })
        response.end('unavailable\n')
      },
    )
  })
  await listen(server, host, port ?? usualPort).catch(async (error: unknown) => {
    if (port !== undefined || !isTaken(error)) throw unusable(host, port ?? usualPort, error)
    await listen(server, host, 0)
  })
  const address = server.address() as AddressInfo // of a server that listens on TCP
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`,
    async stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

/** Whether every check holds, as a probe reads it: 200 or 503, with the checks. */
export async function readiness(health: Pick<Health, 'checks'>): Promise<{ status: number; body: string }> {
  const checks = await health.checks()
  const ready = checks.every(({ ok }) => ok)
  return { status: ready ? 200 : 503, body: `${JSON.stringify({ ready, checks })}\n` }
}

type Answer = { status: number; type: string; body: string }

async function answer(health: Health, method: string, url: string): Promise<Answer> {
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, type: 'text/plain', body: 'GET only\n' }
  const path = url.split('?')[0]
  if (path === '/healthz') return { status: 200, type: 'application/json', body: '{"status":"ok"}\n' }
  if (path === '/readyz') return { type: 'application/json', ...(await readiness(health)) }
  if (path === '/metrics')
    return {
      status: 200,
      type: 'text/plain; version=0.0.4; charset=utf-8',
      body: metricsText(await health.metrics()),
    }
  return { status: 404, type: 'text/plain', body: 'Try /healthz, /readyz or /metrics.\n' }
}

const isTaken = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'

const unusable = (host: string, port: number, cause: unknown): AppError =>
  new AppError('BAD_INPUT', `The address ${host}:${port} cannot be listened on.`, {
    hint: 'Choose another with HEALTH_HOST and HEALTH_PORT.',
    cause,
  })
