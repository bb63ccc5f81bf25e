import { describeError } from '../../shared/log.ts'
import type { Ports } from '../../shared/ports.ts'
import type { Context } from '../context.ts'
import { innermost } from '../graphql/errors.ts'
import { inTimeOnly } from './in-time.ts'

/** What the host lends to one request: `address` is where it comes from, which no header of it can say. */
export type Host = { waitUntil?: (work: Promise<unknown>) => void; address?: string | undefined }

/** What a request works with; `close` is called when its answer is out and its later work done. */
export type Opened = { ports: Ports; close?: () => Promise<void> }

/** A request in work; `end` closes what it works with, when its answer is out. */
export type OpenRequest = { context: Context; end: () => void }

/** Gathers what a request works with. What it asks of the database ends with it, but for what is left for later. */
export function openRequest(
  request: Request,
  requestId: string,
  host: Host,
  { ports: opened, close }: Opened,
  standing: Pick<Context, 'waits' | 'identity' | 'keyCache' | 'knownKeys'>,
): OpenRequest {
  const laterWork: Promise<void>[] = []
  const gone = new AbortController()
  if (request.signal.aborted) gone.abort('gone')
  else request.signal.addEventListener('abort', () => gone.abort('gone'), { once: true })
  const ports = { ...opened, db: inTimeOnly(opened.db, gone.signal, () => context.pledge) }
  const context: Context = {
    ports,
    lastingDb: opened.db,
    requestId,
    request,
    auth: undefined,
    pledge: undefined,
    refusal: undefined,
    ...standing,
    address: host.address,
    lastEventId: lastEventId(request),
    event: { id: undefined },
    loaders: new Map(),
    asked: undefined,
    idempotency: { key: request.headers.get('idempotency-key') ?? undefined, isReplay: false },
    spending: { cost: 0, points: 0, standing: undefined },
    stop: (reason) => gone.abort(reason),
    signal: gone.signal,
    later(work) {
      const logged = work().catch((error) =>
        ports.log.warn('hint.lost', { requestId, error: describeError(innermost(error)) }),
      )
      laterWork.push(logged)
      host.waitUntil?.(logged)
    },
  }
  const end = (): void => {
    gone.abort('answered')
    const closed = Promise.all(laterWork)
      .then(() => close?.())
      .catch((error) => ports.log.warn('close.failed', { requestId, error: describeError(innermost(error)) }))
    host.waitUntil?.(closed)
  }
  return { context, end }
}

// Any other comes of no stream of ours.
function lastEventId(request: Request): string {
  return /^[\w.]{1,100}$/.exec(request.headers.get('last-event-id') ?? '')?.[0] ?? ''
}
