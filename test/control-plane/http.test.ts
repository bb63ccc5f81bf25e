import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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

test('batches are refused, and so are mutations by GET', async () => {
  const batch = await send({ method: 'POST', headers: json, body: `[${hello}, ${hello}]` })
  expect(batch.status).toBeGreaterThanOrEqual(400)
  expect(await batch.text()).not.toContain('key_')
  const mutation = encodeURIComponent('mutation { runPipeline(input: { pipeline: "a/b/c" }) { created } }')
  const byGet = await send({ method: 'GET' }, `/graphql?query=${mutation}`)
  expect(byGet.status).toBe(405)
  const query = await send({ method: 'GET' }, `/graphql?query=${encodeURIComponent('{ viewer { tenantId } }')}`)
  expect(await query.json()).toEqual({ data: { viewer: { tenantId: a.id } } })
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

describe('bombs are refused before they run', () => {
  const nested = (depth: number): string => `${'{ x '.repeat(depth)}${'}'.repeat(depth)}`
  const page = 'nodes { logs(first: 100) { nodes { seq } } events(first: 100) { nodes { seq } } }'
  const bombs: [string, string][] = [
    ['depth', nested(13)],
    [
      'depth by fragments',
      `{ ...A } fragment A on Query ${nested(6).replace('{ x }', '{ x { ...B } }')} fragment B on Query ${nested(7)}`,
    ],
    ['aliases', `{ ${Array.from({ length: 31 }, (_, i) => `a${i}: viewer { keyId }`).join(' ')} }`],
    [
      'aliases by fragments',
      `{ ...A ...A ...B } fragment A on Query { ${Array.from({ length: 11 }, (_, i) => `a${i}: viewer { keyId }`).join(' ')} } fragment B on Query { ...A }`,
    ],
    ['tokens', `{ ${'viewer { keyId } '.repeat(300)} }`],
    ['items', `{ runs(first: 100) { ${page} } }`],
    ['items by variable', `query ($n: Int) { runs(first: $n) { ${page.replaceAll('100', '$n')} } }`],
    ['fragment cycle', '{ ...A } fragment A on Query { viewer { keyId } ...A }'],
  ]
  test.each(bombs)('%s', async (name, document) => {
    const answer = await plane.query(document, a)
    expect(answer.data ?? null).toBeNull()
    expect(answer.errors.map(({ extensions }) => extensions.code)).toContain(
      name === 'fragment cycle' ? 'BAD_INPUT' : 'TOO_LARGE',
    )
  })
  test('and what is within the limits runs', async () => {
    const aliases = Array.from({ length: 30 }, (_, i) => `a${i}: viewer { keyId }`).join(' ')
    expect((await plane.query(`{ ${aliases} }`, a)).errors).toEqual([])
    expect((await plane.query(nested(12), a)).errors.map(({ extensions }) => extensions.code)).toEqual(['BAD_INPUT'])
    expect(
      (await plane.query('{ runs(first: 50) { nodes { events(first: 100) { nodes { seq } } } } }', a)).errors,
    ).toEqual([])
  })
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
