import { setTimeout as wait } from 'node:timers/promises'
import { type App, type AppOptions, createApp } from '../../control-plane/app.ts'
import { passwords } from '../../control-plane/auth/password.ts'
import { mintAccessToken, startSession } from '../../control-plane/auth/session.ts'
import { createPlatform } from '../../control-plane/tenants/bootstrap.ts'
import { limitsOf, tenantConfiguration } from '../../schema/config/tenant.ts'
import { type Role, type Scope, tenantScopes } from '../../schema/roles.ts'
import { queueTypes } from '../../schema/states.ts'
import { apiKey, tenant, tenantLimit, tenantQueue, tenantUser, userRole } from '../../schema/tables/index.ts'
import { systemClock } from '../../shared/clock.ts'
import { withTenant } from '../../shared/db/db.ts'
import type { ErrorData } from '../../shared/errors.ts'
import type { Ports } from '../../shared/ports.ts'
import { type Claim, cancelStep, claimSteps, completeStep, failStep, heartbeat } from '../../shared/runs/ledger.ts'
import { newId } from '../../shared/ids.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { type Hub, inProcessHub } from '../../shared/waking/hub.ts'
import { inProcessWaker, type Waker } from '../../shared/waking/waker.ts'
import { keepDatabase, openMemory } from './database.ts'
import { keepLine } from './keep.ts'

/** An answer of the API as a test looks at it. */
export type Answer = {
  status: number
  /** The result, loosely typed: tests ask for what they look at. */
  data: Loose
  errors: {
    message: string
    path?: (string | number)[]
    extensions: { code: string; hint: string; requestId: string }
  }[]
  text: string
  headers: Headers
}
// oxlint-disable-next-line typescript/no-explicit-any -- tests walk answers of documents that stand beside them
export type Loose = any

/** A frame of an event stream. */
export type Frame = { id: string | undefined; event: string; data: Loose }

/** The control plane over an embedded database, as a client meets it. */
export type ControlPlane = AsyncDisposable & {
  ports: Ports
  app: App
  platformToken: string
  /** Every line of the log, as JSON. */
  logged: string[]
  /** An active tenant without onboarding, with a key of all tenant scopes; for tests of other things. */
  tenant(id?: string): Promise<{ id: string; token: string }>
  /** Another key of a tenant. */
  key(tenantId: string, key?: { scopes?: readonly Scope[]; expiresAt?: Date; revokedAt?: Date }): Promise<string>
  /** An active person of a tenant with these roles. */
  person(tenantId: string, ...roles: Role[]): Promise<{ userId: string; email: string }>
  /** The access token of a new session of a person. */
  session(tenantId: string, userId: string): Promise<string>
  query(
    document: string,
    options?: {
      token?: string | undefined
      variables?: object
      app?: App
      headers?: Record<string, string>
      address?: string
    },
  ): Promise<Answer>
  /** Opens a subscription and reads its frames until it ends. */
  subscribe(
    document: string,
    options: { token: string; variables?: object; app?: App; lastEventId?: string; signal?: AbortSignal },
  ): AsyncGenerator<Frame>
  /** Another app over the same database. */
  appWith(options: Partial<AppOptions>, ports?: Partial<Ports>): App
}

/** Opens the control plane; one per test file, since a database takes a second. */
export async function controlPlane(options: Partial<AppOptions> = {}): Promise<ControlPlane> {
  const { db, close } = await openMemory()
  const keys = { current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }
  const logged: string[] = []
  const log = (event: string, fields?: Record<string, unknown>): void =>
    void logged.push(JSON.stringify({ event, ...fields }))
  const ports: Ports = {
    db,
    secrets: secretBox(keys),
    signing: signingKeys(keys),
    waker: keptWaker(inProcessWaker()),
    hub: inProcessHub(),
    clock: systemClock,
    log: { info: log, warn: log, error: log },
  }
  const appWith = (more: Partial<AppOptions>, otherPorts: Partial<Ports> = {}): App =>
    createApp({
      ports: async () => ({ ports: { ...ports, ...otherPorts } }),
      development: false,
      allowedOrigins: [],
      // Documents of tests are their own, also those of people.
      sessionsRunPersistedOnly: false,
      ...options,
      ...more,
      // A machine with much to do is late without anything being wrong.
      waits: { executionMs: 60_000, ...options.waits, ...more.waits },
      identity: { passwords: passwords(systemClock, cheapCost), ...options.identity, ...more.identity },
    })
  const app = appWith({})
  const platform = await makeApiKey()
  await createPlatform(ports, platform.token)
  let made = 0

  const key: ControlPlane['key'] = async (tenantId, { scopes = tenantScopes, expiresAt, revokedAt } = {}) => {
    const { id, token, secretHash } = await makeApiKey()
    await withTenant(db, { tenantId, side: 'api' }, (tx) =>
      tx.insert(apiKey).values({
        tenantId,
        id,
        name: 'test',
        secretHash,
        scopes: [...scopes],
        createdBy: 'test',
        expiresAt: expiresAt ?? null,
        revokedAt: revokedAt ?? null,
      }),
    )
    return token
  }

  return {
    ports,
    app,
    platformToken: platform.token,
    logged,
    key,
    appWith,
    async tenant(id = `tenant_${++made}`) {
      await withTenant(db, { tenantId: id, side: 'api' }, async (tx) => {
        await tx.insert(tenant).values({
          id,
          name: id,
          companyName: `${id} Corp`,
          adminEmail: `admin@${id}.example`,
          plan: 'SCALE',
          status: 'active',
          configuration: tenantConfiguration.parse({}),
        })
        await tx.insert(tenantLimit).values({ tenantId: id, ...limitsOf('SCALE') })
        await tx.insert(tenantQueue).values(queueTypes.map((queue) => ({ tenantId: id, queue })))
        await ports.secrets.createTenantKey(tx, id)
      })
      return { id, token: await key(id) }
    },
    async person(tenantId, ...roles) {
      const userId = newId('user')
      const email = `${userId}@x.example`
      await withTenant(db, { tenantId, side: 'api' }, async (tx) => {
        await tx.insert(tenantUser).values({ tenantId, id: userId, email, username: email, status: 'active' })
        await tx.insert(userRole).values(roles.map((role) => ({ tenantId, userId, role })))
      })
      return { userId, email }
    },
    async session(tenantId, userId) {
      const { session } = await withTenant(db, { tenantId, side: 'api' }, (tx) =>
        startSession(tx, { tenantId, userId, requestId: newId('request') }, ports.clock.now()),
      )
      return (await mintAccessToken(ports, session)).token
    },
    async query(document, { token, variables = {}, app: other = app, headers = {}, address } = {}) {
      const response = await other.fetch(post(document, variables, token, headers), { address })
      const text = await response.text()
      keepLine('answers', text)
      const body: Loose = text.startsWith('{') ? JSON.parse(text) : {}
      return { status: response.status, data: body.data, errors: body.errors ?? [], text, headers: response.headers }
    },
    async *subscribe(document, { token, variables = {}, app: other = app, lastEventId, signal }) {
      const headers = { accept: 'text/event-stream', ...(lastEventId ? { 'last-event-id': lastEventId } : {}) }
      const response = await other.fetch(post(document, variables, token, headers, signal))
      if (!response.body) throw new Error('no stream')
      let rest = ''
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        const frames = (rest + chunk).split('\n\n')
        rest = frames.pop() ?? ''
        for (const frame of frames) {
          const line = (name: string): string | undefined => new RegExp(`^${name}: ?(.*)$`, 'm').exec(frame)?.[1]
          const event = line('event')
          const data = line('data')
          keepLine('answers', frame)
          if (event !== undefined) yield { id: line('id'), event, data: data ? JSON.parse(data) : undefined }
        }
      }
    },
    async [Symbol.asyncDispose]() {
      for (const line of logged) keepLine('logs', line)
      await keepDatabase(db)
      await close()
    },
  }
}

/** A hub that ends a wait at a hint and never by its time: whoever shows what changed has heard of it. */
export const hintsAlone = (hub: Hub): Hub => ({
  notify: hub.notify,
  wait: (topic, _, signal) => hub.wait(topic, 2 ** 31 - 1, signal),
})

// What goes through the queue, as it goes.
const keptWaker = (waker: Waker): Waker => ({
  listen: waker.listen,
  wake(target) {
    keepLine('wakes', JSON.stringify(target))
    return waker.wake(target)
  },
})

// The cost of a password is proven where it is the matter.
const cheapCost = { ln: 4, r: 1, p: 1 }

/** What a step of the small worker does: nothing for success, an error for failure. */
export type Behaviour = (claim: Claim) => Promise<ErrorData | undefined> | ErrorData | undefined

/**
 * A worker that takes steps and ends them at once, by the ledger alone. It looks at every wake and every 20 ms; dispose
 * it before the database.
 */
export function smallWorker(
  ports: Ports,
  behaviour: Behaviour = () => undefined,
): AsyncDisposable & { done: string[] } {
  const stop = new AbortController()
  const done: string[] = []
  const work = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      const claims = await claimSteps(ports.db, {
        worker: 'wrk_test',
        queues: queueTypes,
        limit: 10,
        leaseMs: 30_000,
        tenants: null,
      })
      for (const claim of claims) {
        const failure = await behaviour(claim)
        if (failure) await failStep(ports.db, claim, failure)
        else if ((await heartbeat(ports.db, claim, 30_000)) === 'cancel') await cancelStep(ports.db, claim)
        else await completeStep(ports.db, claim, { attempt: claim.attempt }, [])
        done.push(`${claim.tenantId} ${claim.stepKey}`)
        ports.hub.notify(claim)
      }
      if (claims.length === 0) await wait(20, undefined, { signal: stop.signal }).catch(() => undefined)
    }
  }
  const working = work()
  return {
    done,
    async [Symbol.asyncDispose]() {
      stop.abort()
      await working
    },
  }
}

/** Resolves when `condition` holds; fails after 30 s with what was waited for: some things linger for 10 s. */
export async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const end = Date.now() + 30_000
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`still waiting: ${what}`)
    await wait(10)
  }
}

function post(
  query: string,
  variables: object,
  token: string | undefined,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Request {
  return new Request('http://edge.example/graphql', {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...headers,
    },
    body: JSON.stringify({ query, variables }),
    signal: signal ?? null,
  })
}
