import { afterAll, beforeAll, expect, test } from 'vitest'
import operations from '../../schema/operations.json' with { type: 'json' }
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane({ allowedOrigins: ['https://console.example'] })
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const send = (init: RequestInit, path = '/graphql'): Promise<Response> =>
  plane.app.fetch(
    new Request(`http://edge.example${path}`, {
      ...init,
      headers: { authorization: `Bearer ${a.token}`, ...init.headers },
    }),
  )
const idOf = (start: string): string =>
  Object.entries(operations).find(([, text]) => text.includes(start))?.[0] ?? 'no such operation'
const json = { 'content-type': 'application/json' }
const hello = JSON.stringify({ query: '{ viewer { keyId } }' })

test('health is told without a key, other paths are not there', async () => {
  const health = await plane.app.fetch(new Request('http://edge.example/healthz'))
  expect([health.status, await health.json()]).toEqual([200, { status: 'ok' }])
  expect((await send({}, '/')).status).toBe(404)
  expect((await send({}, '/graphql/x')).status).toBe(404)
})

test('only JSON is taken', async () => {
  for (const type of [
    'text/plain',
    'application/graphql',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
  ]) {
    const response = await send({ method: 'POST', headers: { 'content-type': type }, body: hello })
    expect([type, response.status]).toEqual([type, 400])
    expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: 'BAD_INPUT' } }] })
  }
  expect(
    (await send({ method: 'POST', headers: { 'content-type': 'application/json; charset=utf-8' }, body: hello }))
      .status,
  ).toBe(200)
})

test('a body above 256 KB is refused, told or untold', async () => {
  const large = JSON.stringify({ query: '{ viewer { keyId } }', variables: { x: 'x'.repeat(262_144) } })
  const told = await send({ method: 'POST', headers: json, body: large })
  expect(told.status).toBe(413)
  let sent = 0
  const endless = new ReadableStream({
    pull(controller) {
      sent += 65_536
      controller.enqueue(new Uint8Array(65_536).fill(32))
    },
  })
  const untold = await send({ method: 'POST', headers: json, body: endless, duplex: 'half' } as RequestInit)
  expect(untold.status).toBe(413)
  expect(await untold.json()).toMatchObject({ errors: [{ extensions: { code: 'TOO_LARGE' } }] })
  expect(sent).toBeLessThan(1_048_576)
})

test('batches are refused', async () => {
  const batch = await send({ method: 'POST', headers: json, body: `[${hello}, ${hello}]` })
  expect(batch.status).toBe(400)
  expect(await batch.text()).not.toContain('key_')
})

test('a link can ask for a published operation only, and never change anything', async () => {
  const byGet = (search: Record<string, string>): Promise<Response> =>
    send({ method: 'GET' }, `/graphql?${new URLSearchParams(search)}`)
  for (const query of ['mutation { runPipeline(input: { pipeline: "a/b/c" }) { created } }', '{ viewer { tenantId } }'])
    expect((await byGet({ query })).status).toBe(400)
  const viewer = await byGet({ documentId: idOf('query Viewer') })
  expect((await viewer.json()).data.viewer.tenantId).toBe(a.id)
  const runs = await byGet({
    extensions: JSON.stringify({ persistedQuery: { version: 1, sha256Hash: idOf('query Runs') } }),
    variables: '{"first":1}',
  })
  expect((await runs.json()).data.runs.nodes).toEqual([])
  const started = await byGet({ documentId: idOf('mutation RunPipeline'), variables: '{"input":{"pipeline":"a/b/c"}}' })
  expect(started.status).toBe(405)
})

test('every answer says that it is what it says, and is kept by nobody', async () => {
  const answers = [
    await plane.app.fetch(new Request('http://edge.example/healthz')),
    await send({}, '/'),
    await send({ method: 'POST', headers: json, body: hello }),
    await send({ method: 'POST', headers: json, body: '{' }),
    await send({}, '/v1/audit.ndjson'),
  ]
  for (const { headers } of answers)
    expect([headers.get('x-content-type-options'), headers.get('cache-control')]).toEqual(['nosniff', 'no-store'])
})

test('browsers may call from listed origins only', async () => {
  const preflight = (origin: string): Promise<Response> =>
    plane.app.fetch(
      new Request('http://edge.example/graphql', {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' },
      }),
    )
  const listed = await preflight('https://console.example')
  expect(listed.headers.get('access-control-allow-origin')).toBe('https://console.example')
  expect(listed.headers.get('access-control-allow-headers')).toContain('authorization')
  expect((await preflight('https://evil.example')).headers.get('access-control-allow-origin')).not.toBe(
    'https://evil.example',
  )
  const called = await send({ method: 'POST', headers: { ...json, origin: 'https://console.example' }, body: hello })
  expect(called.headers.get('access-control-allow-origin')).toBe('https://console.example')
  const closed = plane.appWith({ allowedOrigins: [] })
  const none = await closed.fetch(
    new Request('http://edge.example/graphql', { method: 'OPTIONS', headers: { origin: 'https://console.example' } }),
  )
  expect(none.headers.get('access-control-allow-origin')).toBeNull()
})

test('every answer names its request, and errors name the same', async () => {
  const answer = await plane.query('{ run(id: "run_x") { id } }', a)
  expect(answer.errors[0]?.extensions.requestId).toBe(answer.headers.get('x-request-id'))
  expect(answer.errors[0]?.extensions).toMatchObject({ code: 'NOT_FOUND', hint: expect.stringContaining('id') })
})

test('the schema is told to keys and in development, and to nobody else', async () => {
  const introspection = '{ __schema { queryType { name } } }'
  expect((await plane.query(introspection, a)).data.__schema.queryType.name).toBe('Query')
  expect((await plane.query(introspection)).status).toBe(401)
  const development = plane.appWith({ development: true })
  expect((await plane.query(introspection, { app: development })).data.__schema.queryType.name).toBe('Query')
  const page = (app: typeof development) =>
    app.fetch(
      new Request('http://edge.example/graphql', {
        headers: { accept: 'text/html', authorization: `Bearer ${a.token}` },
      }),
    )
  expect(await (await page(development)).text()).toContain('GraphiQL')
  expect(await (await page(plane.app)).text()).not.toContain('GraphiQL')
})

test('an unexpected error leaves as INTERNAL with a request id, and its text stays in the log', async () => {
  const app = plane.appWith(
    {},
    {
      hub: plane.ports.hub,
      db: new Proxy(plane.ports.db, {
        get(target, name, receiver) {
          if (name !== 'transaction') return Reflect.get(target, name, receiver)
          return (work: Parameters<typeof target.transaction>[0]) => {
            if (broken) return Promise.reject(new Error('password=canary-77 at host inner'))
            broken = true
            return target.transaction(work)
          }
        },
      }),
    },
  )
  let broken = false
  const answer = await plane.query('{ runs { nodes { id } } }', { token: a.token, app })
  expect(answer.text).not.toContain('canary-77')
  expect(answer.errors[0]?.extensions).toMatchObject({ code: 'INTERNAL' })
  const requestId = answer.errors[0]?.extensions.requestId ?? 'none'
  expect(plane.logged.some((line) => line.includes(requestId) && line.includes('request.failed'))).toBe(true)
  broken = true
  const closed = await plane.query('{ runs { nodes { id } } }', { token: a.token, app })
  expect([closed.status, closed.errors[0]?.extensions.code]).toEqual([500, 'INTERNAL'])
})

test('ports are closed once the answer is out', async () => {
  let open = 0
  const app = plane.appWith({ ports: async () => (open++, { ports: plane.ports, close: async () => void open-- }) })
  const background: Promise<unknown>[] = []
  await app
    .fetch(
      new Request('http://edge.example/graphql', {
        method: 'POST',
        headers: { ...json, authorization: `Bearer ${a.token}` },
        body: hello,
      }),
      {
        waitUntil: (work) => void background.push(work),
      },
    )
    .then((response) => response.text())
  await Promise.all(background)
  expect(open).toBe(0)
  await plane.query('{ viewer { keyId } }', { app, token: 'wrong' })
  await Promise.resolve()
  expect(open).toBe(0)
})

test('a refusal has the media type of GraphQL for those who take it, and that of JSON for others', async () => {
  for (const [accept, type] of [
    ['application/graphql-response+json, application/json;q=0.9', 'application/graphql-response+json; charset=utf-8'],
    ['application/json', 'application/json'],
    ['*/*', 'application/json'],
  ] as const) {
    const response = await send({
      method: 'POST',
      headers: { ...json, authorization: 'Bearer x', accept },
      body: hello,
    })
    expect([response.status, response.headers.get('content-type')]).toEqual([401, type])
    expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] })
  }
})
