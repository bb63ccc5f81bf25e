import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import openapi from '../../schema/openapi.json' with { type: 'json' }
import { type ControlPlane, controlPlane, type Loose, smallWorker } from '../support/control-plane.ts'

let plane: ControlPlane
let worker: ReturnType<typeof smallWorker>
let a: { id: string; token: string }
let b: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  worker = smallWorker(plane.ports)
  a = await plane.tenant()
  b = await plane.tenant()
})
afterAll(async () => {
  await worker[Symbol.asyncDispose]()
  await plane[Symbol.asyncDispose]()
})

type Asked = { status: number; body: Loose; text: string; headers: Headers }
async function ask(
  call: string,
  token: string | undefined,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Asked> {
  const [method = '', path = ''] = call.split(' ')
  const response = await plane.app.fetch(
    new Request(`http://edge.example/api/v1${path}`, {
      method,
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
  )
  const text = await response.text()
  return {
    status: response.status,
    body: text.startsWith('{') ? JSON.parse(text) : text,
    text,
    headers: response.headers,
  }
}

const gcp = { client_email: 'a@b.example', private_key: 'x', project_id: 'p' }
const postgres = { host: 'db.example', database: 'd', user: 'u', password: 'p4ssw0rd-of-a' }

/** What is known of a route: how it is asked for a tenant, and as whom. `made` comes of earlier routes. */
type Example = {
  at: (tenant: string, made: Loose) => string
  body?: (tenant: string) => unknown
  as?: 'platform'
  status: number
}
// In the order in which they can be asked.
const examples: Record<string, Example> = {
  'POST /tenants/onboard': {
    at: () => '/tenants/onboard',
    body: (tenant) => ({ tenant_id: `${tenant}_new`, company_name: 'New Corp', subscription_plan: 'SCALE' }),
    as: 'platform',
    status: 201,
  },
  'POST /tenants/{tenant_id}/credentials': {
    at: (tenant) => `/tenants/${tenant}/credentials`,
    body: () => ({ provider: 'GCP', credentials: gcp }),
    status: 201,
  },
  'POST /tenants/{tenant_id}/credentials/queue': {
    at: (tenant) => `/tenants/${tenant}/credentials/queue`,
    body: () => ({ provider: 'postgres', name: 'warehouse', credentials: postgres }),
    status: 202,
  },
  'GET /tenants/{tenant_id}/credentials': { at: (tenant) => `/tenants/${tenant}/credentials?first=1`, status: 200 },
  'PUT /tenants/{tenant_id}/credentials/{name}': {
    at: (tenant) => `/tenants/${tenant}/credentials/gcp`,
    body: () => ({ credentials: { ...gcp, project_id: 'q' }, expected_version: 1 }),
    status: 200,
  },
  'POST /pipelines/run/{tenant_id}/{provider}/{domain}/{template}': {
    at: (tenant) => `/pipelines/run/${tenant}/gcp/cost/cost_billing`,
    body: () => ({ date: '2024-11-01' }),
    status: 202,
  },
  'GET /pipelines/runs/{run_id}': { at: (_tenant, { run_id: id }) => `/pipelines/runs/${id}`, status: 200 },
  'POST /scheduler/configs': {
    at: () => '/scheduler/configs',
    body: () => ({ pipeline_config: 'gcp/cost/cost_billing', schedule: '0 2 * * *' }),
    status: 200,
  },
  'GET /scheduler/configs': { at: () => '/scheduler/configs?pipeline_config=gcp/cost/cost_billing', status: 200 },
  'POST /scheduler/configs/{schedule_id}/pause': {
    at: (_tenant, { schedule_id: id }) => `/scheduler/configs/${id}/pause`,
    status: 200,
  },
  'POST /scheduler/configs/{schedule_id}/resume': {
    at: (_tenant, { schedule_id: id }) => `/scheduler/configs/${id}/resume`,
    status: 200,
  },
  'DELETE /scheduler/configs/{schedule_id}': {
    at: (_tenant, { schedule_id: id }) => `/scheduler/configs/${id}`,
    status: 200,
  },
  'POST /admin/workers/control': {
    at: () => '/admin/workers/control',
    body: () => ({ action: 'start' }),
    as: 'platform',
    status: 200,
  },
  'POST /admin/workers/tenant/control': {
    at: () => '/admin/workers/tenant/control',
    body: (tenant) => ({ action: 'restart', tenant_id: tenant, queues: ['TRANSFORM'] }),
    status: 200,
  },
  'GET /admin/workers/tenant/{tenant_id}/status': {
    at: (tenant) => `/admin/workers/tenant/${tenant}/status`,
    status: 200,
  },
  'DELETE /tenants/{tenant_id}/credentials/{name}': {
    at: (tenant) => `/tenants/${tenant}/credentials/gcp`,
    status: 200,
  },
}
const calls = Object.entries(examples)
const call = (route: string, { at }: Example, tenant: string, made: Loose): string =>
  `${route.split(' ')[0]} ${at(tenant, made)}`

const documented = Object.entries<Record<string, Loose>>(openapi.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    route: `${method.toUpperCase()} ${path.replace('/api/v1', '')}`,
    operation,
  })),
)
const operationOf = (route: string): Loose => documented.find((one) => one.route === route)?.operation
const problem = z.fromJSONSchema(openapi.components.schemas.Problem as Loose)

// What A made by asking every route once.
const made: Loose = {}

test('every route of the document has an example here', () => {
  expect(documented.map(({ route }) => route).sort()).toEqual(Object.keys(examples).sort())
})

const expectProblem = ({ status, body, headers }: Asked, code: string): void => {
  expect(headers.get('content-type')).toBe('application/problem+json')
  problem.parse(body)
  expect(body).toMatchObject({ status, code, type: `urn:tributary:error:${code}` })
}
const bare = ({ status, text }: Asked, ...words: string[]): string =>
  words.reduce((rest, word) => rest.replaceAll(word, '<asked>'), `${status} ${text.replaceAll(/req_\w+/g, 'req')}`)

describe.each(calls)('%s', (route, example) => {
  // Before it is done, since some of it can be done once.
  test('tells nobody else anything', async () => {
    const body = example.body?.(a.id)
    const here = call(route, example, a.id, made)
    const none = await ask(here, undefined, body)
    expectProblem(none, 'UNAUTHENTICATED')
    expect(none).toMatchObject({ status: 401 })
    const old = await plane.key(a.id, { expiresAt: new Date(Date.now() - 1000) })
    expectProblem(await ask(here, old, body), 'UNAUTHENTICATED')
    const weak = await plane.key(a.id, { scopes: ['audit:read'] })
    expectProblem(await ask(here, weak, body), 'FORBIDDEN')

    const missing = `${a.id.slice(0, -1)}_`
    const nowhere = { run_id: `run_${'0'.repeat(32)}`, schedule_id: `sch_${'0'.repeat(32)}` }
    const foreign = await ask(here, b.token, body)
    const nobody = await ask(call(route, example, missing, nowhere), b.token, example.body?.(missing))
    const words = [a.id, missing, ...Object.values(nowhere), made.run_id, made.schedule_id]
    if (!/\{(tenant_id|run_id|schedule_id)\}|tenant\/control|onboard|workers\/control/.test(route)) return
    expect(foreign.status).toBeGreaterThanOrEqual(403)
    expect(bare(foreign, ...words)).toBe(bare(nobody, ...words))
    if (example.at(a.id, made).includes(a.id) || route.includes('tenant/control')) expectProblem(foreign, 'FORBIDDEN')
  })

  test('does what the document says', async () => {
    const { parameters, requestBody, responses } = operationOf(route)
    const body = example.body?.(a.id)
    if (requestBody) z.fromJSONSchema(requestBody.content['application/json'].schema).parse(body)
    const path = call(route, example, a.id, made)
    const asked = [...new URL(`http://x/${path}`).searchParams.keys()]
    expect(parameters.filter((one: Loose) => one.in === 'query').map((one: Loose) => one.name)).toEqual(
      expect.arrayContaining(asked),
    )
    const answer = await ask(path, example.as === 'platform' ? plane.platformToken : a.token, body)
    expect(answer).toMatchObject({ status: example.status })
    expect(answer.headers.get('content-type')).toContain('application/json')
    expect(answer.headers.get('x-request-id')).toMatch(/^req_/)
    expect(answer.headers.get('x-ratelimit-remaining')).toMatch(/^\d+$/)
    z.fromJSONSchema(responses[example.status].content['application/json'].schema).parse(answer.body)
    Object.assign(made, answer.body)
  })
})

test('the same key does a thing once, and says that it is a repeat', async () => {
  const start = (date: string): Promise<Asked> =>
    ask(`POST /pipelines/run/${a.id}/gcp/cost/cost_billing`, a.token, { date }, { 'idempotency-key': 'nightly' })
  const first = await start('2024-11-02')
  expect(first).toMatchObject({ status: 202, body: { created: true } })
  expect(first.headers.get('location')).toBe(`/api/v1/pipelines/runs/${first.body.run_id}`)
  const again = await start('2024-11-02')
  expect(again).toMatchObject({ status: 200, body: { run_id: first.body.run_id, created: false } })
  expect(again.headers.get('idempotency-replayed')).toBe('true')
  const other = await start('2024-11-03')
  expectProblem(other, 'IDEMPOTENCY_KEY_REUSED')
  expect(other).toMatchObject({ status: 409, body: { retry: 'never' } })
})

test('a tenant is set up by the words of the quick start, and its key works', async () => {
  const onboarded = await ask('POST /tenants/onboard', plane.platformToken, {
    tenant_id: 'guru_232342',
    company_name: 'Guru Corp',
  })
  expect(onboarded.body).toMatchObject({ created: true, tenant: { tenant_id: 'guru_232342', status: 'ACTIVE' } })
  const { api_key: token } = onboarded.body
  await ask('POST /tenants/guru_232342/credentials', token, { provider: 'GCP', credentials: gcp })
  const run = await ask('POST /pipelines/run/guru_232342/gcp/cost/cost_billing', token, { date: '2024-11-01' })
  expect(run.status).toBe(202)
  const seen = await ask(`GET /pipelines/runs/${run.body.run_id}`, token)
  expect(seen.body).toMatchObject({ pipeline: 'gcp/cost/cost_billing' })
})

test('the platform stops and starts the queues of any tenant, and hears of one that there is not', async () => {
  const control = (action: string, tenant_id: string): Promise<Asked> =>
    ask('POST /admin/workers/tenant/control', plane.platformToken, { action, tenant_id })
  expect((await control('stop', b.id)).body.queues).toHaveLength(4)
  const status = await ask(`GET /admin/workers/tenant/${b.id}/status`, plane.platformToken)
  expect(status.body.queues.map(({ state }: Loose) => state)).toEqual(Array.from({ length: 4 }, () => 'STOPPED'))
  expect((await control('start', b.id)).status).toBe(200)
  expectProblem(await control('start', 'nobody_here'), 'NOT_FOUND')
})

test('what is wrong is named without repeating it', async () => {
  const path = `POST /tenants/${a.id}/credentials`
  const secret = 'p4ssw0rd-in-the-wrong-place'
  for (const [body, place] of [
    [{ provider: 'postgres', credentials: secret }, 'credentials'],
    [{ provider: { secret }, credentials: {} }, 'provider'],
    [{ provider: 'postgres', credentials: {}, [secret]: 1 }, 'a field that it does not take'],
  ] as const) {
    const answer = await ask(path, a.token, body)
    expectProblem(answer, 'BAD_INPUT')
    expect(answer.body.detail).toContain(place)
    expect(answer.text).not.toContain(secret)
  }
  const rejected = await ask(path, a.token, { provider: 'postgres', name: 'other', credentials: { host: 1 } })
  expectProblem(rejected, 'CREDENTIAL_INVALID')
  expect(rejected).toMatchObject({ status: 422, body: { errors: [{ path: [expect.stringMatching(/^secret/)] }] } })
})

test('a body that is no JSON, too large or in another form is refused', async () => {
  const send = async (body: string, type: string): Promise<Asked> => {
    const url = `http://edge.example/api/v1/pipelines/run/${a.id}/gcp/cost/cost_billing`
    const headers = { authorization: `Bearer ${a.token}`, 'content-type': type }
    const response = await plane.app.fetch(new Request(url, { method: 'POST', headers, body }))
    const text = await response.text()
    return { status: response.status, text, body: JSON.parse(text), headers: response.headers }
  }
  expectProblem(await send('{', 'application/json'), 'BAD_INPUT')
  expectProblem(await send('{}', 'application/x-www-form-urlencoded'), 'BAD_INPUT')
  expectProblem(await send(`{"a":"${'x'.repeat(300_000)}"}`, 'application/json'), 'TOO_LARGE')
  const yesterday = await send('{"date":"yesterday"}', 'application/json')
  expectProblem(yesterday, 'BAD_INPUT')
  expect(yesterday.body.detail).toBe('Not usable in the body: date.')
})

test('a path that there is not, and a method that it does not take, are told apart by the hint alone', async () => {
  const nowhere = await ask('GET /nowhere', a.token)
  const wrong = await ask('GET /tenants/onboard', a.token)
  expectProblem(nowhere, 'NOT_FOUND')
  expectProblem(wrong, 'NOT_FOUND')
  expect(wrong.body.hint).toBe('It takes POST.')
  expectProblem(await ask(`GET /tenants/${a.id}/credentials?frist=1`, a.token), 'BAD_INPUT')
  expectProblem(await ask('GET /tenants/%ff/credentials', a.token), 'NOT_FOUND')
})

test('what describes the API is told to whoever has a key', async () => {
  expect((await ask('GET /openapi.json', a.token)).body).toEqual(openapi)
  expect((await ask('GET /schema.graphql', a.token)).text).toContain('type Query {')
  expect((await ask('GET /operations.json', a.token)).body['run-pipeline']).toMatchObject({ kind: 'mutation' })
  for (const path of ['/openapi.json', '/schema.graphql', '/operations.json'])
    expectProblem(await ask(`GET ${path}`, undefined), 'UNAUTHENTICATED')
})

test('people may use the routes where they may run the published operations only', async () => {
  const { userId } = await plane.person(a.id, 'DATA_ENGINEER')
  const app = plane.appWith({ sessionsRunPersistedOnly: true })
  const token = await plane.session(a.id, userId)
  const response = await app.fetch(
    new Request(`http://edge.example/api/v1/tenants/${a.id}/credentials`, {
      headers: { authorization: `Bearer ${token}` },
    }),
  )
  expect(response.status).toBe(200)
})
