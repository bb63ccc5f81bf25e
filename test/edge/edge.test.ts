import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Client, graphqlClient } from '../../standalone/client.ts'
import { until } from '../support/control-plane.ts'
import { leastMs } from '../support/timing.ts'
import { type EdgeHouse, edgeHouse } from './house.ts'
import { onDeno, onWorkerd } from './runtimes.ts'

// People run published operations only.
const viewer = readFileSync(new URL('../../schema/operations/viewer.graphql', import.meta.url), 'utf8')

let house: EdgeHouse | undefined
let skipped = ''
beforeAll(async () => {
  const opened = await edgeHouse()
  if ('skipped' in opened) skipped = opened.skipped
  else house = opened
}, 120_000)
afterAll(() => house?.[Symbol.asyncDispose]())

const pipeline = `
pipeline_id: edge
steps:
  - step_id: one
    ps_type: sql.transform
    query: "SELECT 1 AS n"
    destination: { table: edge, mode: replace }
`

// A person of the tenant, from the invitation to the first request of its own.
let people = 0
async function signIn(client: Client, url: string): Promise<Record<string, unknown>> {
  const email = `p${++people}@x.example`
  const stranger = async (query: string, input: object): Promise<Record<string, unknown>> => {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables: { input } }),
    })
    const told = (await response.json()) as Record<string, unknown>
    expect(told['errors']).toBeUndefined()
    return told
  }
  const made = await client.request(
    'mutation ($email: String!) { createUser(input: { email: $email, role: POWER_USER }) { user { id } } }',
    { email },
  )
  const { createUser } = made as { createUser: { user: { id: string } } }
  const invited = await client.request('mutation ($id: ID!) { inviteUser(input: { id: $id }) { link } }', {
    id: createUser.user.id,
  })
  const { inviteUser } = invited as { inviteUser: { link: string } }
  const password = 'correct horse battery'
  await stranger('mutation ($input: AccountLinkInput!) { activateAccount(input: $input) { isDone } }', {
    token: inviteUser.link,
    password,
  })
  const answer = await stranger('mutation ($input: LoginInput!) { login(input: $input) { tokens { accessToken } } }', {
    tenantId: 'edge_tenant',
    email,
    password,
  })
  const { data } = answer as { data: { login: { tokens: { accessToken: string } } } }
  return graphqlClient(url, data.login.tokens.accessToken).request(viewer)
}

test.for([
  ['Deno', onDeno],
  ['workerd', onWorkerd],
] as const)(
  'the control plane answers a query, a mutation and a subscription on %s',
  { timeout: 120_000 },
  async ([, start], context) => {
    if (!house) return context.skip(`left out: ${skipped}`)
    await using runtime = await start(house.variables)
    const health = await fetch(`${runtime.url}/healthz`)
    expect(await health.json()).toEqual({ status: 'ok' })

    const client = graphqlClient(runtime.url, house.token)
    expect(await client.request('{ viewer { tenantId } }')).toEqual({ viewer: { tenantId: 'edge_tenant' } })
    await expect(
      graphqlClient(runtime.url, `key_${'0'.repeat(32)}.${'0'.repeat(64)}`).request('{ viewer { tenantId } }'),
    ).rejects.toThrow('UNAUTHENTICATED')

    expect(await signIn(client, runtime.url)).toMatchObject({ viewer: { tenantId: 'edge_tenant' } })

    const saved = await client.request(
      'mutation ($yaml: String!) { savePipeline(input: {path: "test/edge/one", yaml: $yaml}) { errors { message } } }',
      { yaml: pipeline },
    )
    expect(saved).toEqual({ savePipeline: { errors: [] } })
    const started = await client.request(
      'mutation { runPipeline(input: {pipeline: "test/edge/one"}) { run { id } errors { message } } }',
    )
    const { runPipeline } = started as { runPipeline: { run: { id: string } } }
    const byPath = (path: string): Promise<Response> =>
      fetch(`${runtime.url}/api/v1${path}`, { headers: { authorization: `Bearer ${house?.token}` } })
    const run = await byPath(`/pipelines/runs/${runPipeline.run.id}`)
    expect(await run.json()).toMatchObject({ run_id: runPipeline.run.id, pipeline: 'test/edge/one' })
    expect((await byPath('/tenants/another_tenant/credentials')).headers.get('content-type')).toBe(
      'application/problem+json',
    )
    expect(await (await byPath('/schema.graphql')).text()).toContain('type Query {')

    const types: unknown[] = []
    for await (const event of client.subscribe('subscription ($runId: ID!) { runEvents(runId: $runId) { seq type } }', {
      runId: runPipeline.run.id,
    })) {
      types.push((event as { runEvents: { type: string } }).runEvents.type)
    }
    expect(types[0]).toBe('run.queued')
    expect(types.at(-1)).toBe('run.succeeded')
  },
)

test.for([
  ['Deno', onDeno],
  ['workerd', onWorkerd],
] as const)(
  'isolates on %s share limits, hints and what is known of keys through Redis',
  { timeout: 120_000 },
  async ([name, start], context) => {
    const redis = house?.redis
    if (!house || !redis) return context.skip(`left out: ${skipped || 'no redis-server on this machine'}`)
    await using one = await start(house.variables)
    await using other = await start(house.variables)
    const { token } = house
    const ask = (url: string, as = token): Promise<unknown> => graphqlClient(url, as).request('{ viewer { tenantId } }')
    for (const { url } of [one, other]) await ask(url)
    expect(redis.asked).toContain('EVALSHA')
    // Whoever is out of points in Redis is refused in every isolate.
    redis.lie = ([name, , keys], result) =>
      name === 'EVALSHA' && keys === '2' ? [String(Date.now()), '0', '0'] : result
    for (const { url } of [one, other]) await expect(ask(url)).rejects.toThrow('RATE_LIMITED')
    redis.lie = undefined

    const client = graphqlClient(one.url, token)
    const made = (await client.request(
      'mutation { createApiKey(input: { name: "short", scopes: [PIPELINES_READ] }) { apiKey { id } token } }',
    )) as { createApiKey: { apiKey: { id: string }; token: string } }
    const short = made.createApiKey
    for (const { url } of [one, other, one, other]) await ask(url, short.token)
    expect(redis.asked).toContain('SET')
    await client.request('mutation ($id: ID!) { revokeApiKey(input: { id: $id }) { errors { code } } }', {
      id: short.apiKey.id,
    })
    for (const { url } of [one, other]) await expect(ask(url, short.token)).rejects.toThrow('UNAUTHENTICATED')

    // The stream waits in one isolate for what is stopped in the other: it would look again 5 s later by itself.
    const hear = async (): Promise<void> => {
      let frames = 0
      for await (const _ of graphqlClient(other.url, token).subscribe('subscription { queueStatus { name } }', {})) {
        if (++frames === 2) break
        await until('it listens', () => redis.streams() > 0)
        await client.request(
          'mutation { controlWorkers(input: { action: STOP, queues: [INGEST] }) { errors { code } } }',
        )
      }
      await client.request(
        'mutation { controlWorkers(input: { action: START, queues: [INGEST] }) { errors { code } } }',
      )
    }
    expect(await leastMs(4_500, hear)).toBeLessThan(4_500)
    // workerd tells half a minute later that a client is gone.
    if (name === 'Deno') await until('no stream is left', () => redis.streams() === 0)
  },
)
