import { createHmac } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rowsOf } from '../../shared/db/db.ts'
import { isSigned, makeWebhookSecret, signMessage } from '../../shared/webhooks/signature.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'
import { dumpOf, tamper } from '../support/database.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

type Tenant = { id: string; token: string }
const path = 'x/y/z'
const yaml = `pipeline_id: p
parameters: { region: { type: string, enum: [EU, US] }, day: { type: date }, count: { type: integer, default: 1 } }
steps:
  - step_id: only
    ps_type: file.delete
    paths: ["a"]
`

async function mutate(tenant: Tenant, name: string, input: object, select = ''): Promise<Loose> {
  const type = `${name[0]?.toUpperCase()}${name.slice(1)}Input`
  const { data, errors } = await plane.query(
    `mutation ($input: ${type}!) { ${name}(input: $input) { ${select} errors { code path } } }`,
    { token: tenant.token, variables: { input } },
  )
  expect(errors).toEqual([])
  return data[name]
}

type Hook = { tenant: Tenant; id: string; url: string; secret: string }
async function makeHook(input: object = {}): Promise<Hook> {
  const tenant = await plane.tenant()
  expect((await mutate(tenant, 'savePipeline', { path, yaml })).errors).toEqual([])
  const made = await mutate(
    tenant,
    'createWebhook',
    { name: 'orders', pipeline: path, ...input },
    'webhook { id url } secret',
  )
  expect(made.errors).toEqual([])
  return { tenant, ...made.webhook, secret: made.secret }
}

type Message = {
  id?: string
  at?: number
  body?: string
  secret?: string
  signature?: string
  headers?: Record<string, string | undefined>
}
let sent = 0
/** Posts a message as a sender does that knows nothing of our code. */
async function send(
  hook: Pick<Hook, 'url' | 'secret'>,
  message: Message = {},
): Promise<{ status: number; body: Loose; headers: Headers }> {
  const {
    id = `msg_${++sent}`,
    at = Math.floor(Date.now() / 1000),
    body = '{"region":"EU"}',
    secret = hook.secret,
  } = message
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
  const signature =
    message.signature ?? `v1,${createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')}`
  const headers = Object.entries({
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(at),
    'webhook-signature': signature,
    ...message.headers,
  }).filter((header): header is [string, string] => header[1] !== undefined)
  const response = await plane.app.fetch(
    new Request(`http://edge.example${hook.url}`, { method: 'POST', headers, body }),
  )
  return { status: response.status, body: await response.json(), headers: response.headers }
}
const runsOf = ({ tenant }: Hook): Promise<Loose[]> =>
  rowsOf(
    plane.ports.db,
    sql`select run_id as id, parameters, trigger_kind as trigger, requested_by as by from app.pipeline_run where tenant_id = ${tenant.id} order by 1`,
  )

describe('a signed message', () => {
  test('starts a run with the fields of its body, and names it', async () => {
    const hook = await makeHook()
    const { status, body } = await send(hook, {
      body: '{"region":"US","day":"2026-03-29","count":3,"other":[1],"__proto__":{"x":1}}',
    })
    expect(status).toBe(202)
    expect(body).toEqual({ runId: expect.stringMatching(/^run_/), created: true })
    expect(await runsOf(hook)).toEqual([
      {
        id: body.runId,
        parameters: { region: 'US', day: '2026-03-29', count: 3 },
        trigger: 'webhook',
        by: `webhook:${hook.id}`,
      },
    ])
  })

  test('is taken once, whatever it says the second time', async () => {
    const hook = await makeHook()
    const first = await send(hook, { id: 'msg_once' })
    const again = await Promise.all([
      send(hook, { id: 'msg_once' }),
      send(hook, { id: 'msg_once', body: '{"region":"US"}' }),
    ])
    expect(again.map(({ status, body }) => [status, body])).toEqual(
      again.map(() => [200, { runId: first.body.runId, created: false }]),
    )
    expect(await runsOf(hook)).toHaveLength(1)
  })

  test('sent twice at the same time has one run', async () => {
    const hook = await makeHook()
    const both = await Promise.all([1, 2, 3, 4].map(() => send(hook, { id: 'msg_both' })))
    expect(new Set(both.map(({ body }) => body.runId)).size).toBe(1)
    expect(await runsOf(hook)).toHaveLength(1)
  })

  test('gives parameters from where the mapping says, and none that the webhook fixes', async () => {
    const hook = await makeHook({
      mapping: { day: 'event.at.day', region: 'event.region' },
      parameters: { region: 'EU' },
    })
    await send(hook, { body: '{"event":{"region":"US","at":{"day":"2026-01-02"}},"region":"US"}' })
    expect((await runsOf(hook))[0].parameters).toMatchObject({ region: 'EU', day: '2026-01-02' })
  })

  test('may carry several signatures, as while its sender changes the secret', async () => {
    const hook = await makeHook()
    const at = Math.floor(Date.now() / 1000)
    const good = await signMessage(hook.secret, { id: 'msg_two', timestamp: String(at), body: '{}' })
    const bad = await signMessage(makeWebhookSecret(), { id: 'msg_two', timestamp: String(at), body: '{}' })
    const { status } = await send(hook, { id: 'msg_two', at, body: '{}', signature: `v2,xyz ${bad} ${good}` })
    expect(status).toBe(202)
  })
})

describe('a forgery', () => {
  const forged = async (hook: Hook, message: Message & { url?: string }): Promise<string> => {
    const { status, body } = await send({ ...hook, ...(message.url ? { url: message.url } : {}) }, message)
    return `${status} ${JSON.stringify(body).replaceAll(/req_[0-9a-f]+/g, 'req')}`
  }
  const now = (): number => Math.floor(Date.now() / 1000)

  test('of any kind, an unknown hook and one of nobody give one and the same answer, and start nothing', async () => {
    const hook = await makeHook()
    const other = await makeHook()
    const at = now()
    const genuine = await signMessage(hook.secret, { id: 'msg_g', timestamp: String(at), body: '{"region":"EU"}' })
    const attempts: (Message & { url?: string })[] = [
      { secret: makeWebhookSecret() },
      { secret: other.secret },
      { id: 'msg_g', at, signature: genuine, body: '{"region":"US"}' },
      { id: 'msg_h', at, signature: genuine },
      { id: 'msg_g', at: at + 1, signature: genuine },
      { id: 'msg_g', at, signature: genuine, url: other.url },
      { id: 'msg_g', at, signature: genuine.replace('v1,', '') },
      { id: 'msg_g', at, signature: genuine.replace('v1,', 'v1a,') },
      { signature: 'v1,' },
      { signature: 'v1,%%%' },
      { signature: `v1,${'A'.repeat(44)}` },
      { at: now() - 301 },
      { at: now() + 360 },
      { headers: { 'webhook-timestamp': `${now()}.5` } },
      { headers: { 'webhook-timestamp': '0x65' } },
      { headers: { 'webhook-signature': undefined } },
      { headers: { 'webhook-id': undefined } },
      { headers: { 'webhook-id': 'a.b' } },
      { url: `/v1/hooks/whk_${'0'.repeat(32)}` },
      { url: '/v1/hooks/no-id' },
      { url: `/v1/hooks/${hook.tenant.id}` },
    ]
    const answers = new Set<string>()
    for (const attempt of attempts) answers.add(await forged(hook, attempt))
    expect([...answers]).toEqual([expect.stringMatching(/^401 .*"UNAUTHENTICATED"/)])
    expect([...(await runsOf(hook)), ...(await runsOf(other))]).toEqual([])
    expect((await send(hook, { id: 'msg_g', at, signature: genuine })).status).toBe(202)
  })

  test('cannot use up what the sender may send', async () => {
    const hook = await makeHook({ messagesPerMinute: 1 })
    for (let n = 0; n < 5; n++) await forged(hook, { secret: makeWebhookSecret() })
    expect((await send(hook)).status).toBe(202)
  })

  test('is too late with the secret of before a rotation once its overlap is over', async () => {
    const hook = await makeHook()
    const rotated = await mutate(
      hook.tenant,
      'rotateWebhook',
      { id: hook.id, overlapSeconds: 60 },
      'secret webhook { version previousUntil }',
    )
    expect(rotated).toMatchObject({ errors: [], webhook: { version: 2, previousUntil: expect.any(String) } })
    expect((await send(hook)).status).toBe(202)
    expect((await send(hook, { secret: rotated.secret })).status).toBe(202)
    await tamper(
      plane.ports.db,
      sql`update app.webhook set previous_until = now() - interval '1 s' where id = ${hook.id}`,
    )
    expect((await send(hook)).status).toBe(401)
    const last = await mutate(hook.tenant, 'rotateWebhook', { id: hook.id, overlapSeconds: 0 }, 'secret')
    expect((await send(hook, { secret: rotated.secret })).status).toBe(401)
    expect((await send(hook, { secret: last.secret })).status).toBe(202)
  })

  test('is every message after the webhook is deleted', async () => {
    const hook = await makeHook()
    await mutate(hook.tenant, 'deleteWebhook', { id: hook.id })
    expect((await send(hook)).status).toBe(401)
  })
})

describe('what its sender is told', () => {
  const told = async (hook: Hook, message: Message): Promise<[number, string]> => {
    const { status, body } = await send(hook, message)
    return [status, body.errors[0].extensions.code]
  }
  test('of a body that does not fit', async () => {
    const hook = await makeHook()
    expect(await told(hook, { body: 'no json' })).toEqual([400, 'BAD_INPUT'])
    expect(await told(hook, { body: '[1]' })).toEqual([400, 'BAD_INPUT'])
    expect(await told(hook, { body: '{"region":"MARS"}' })).toEqual([422, 'PARAMETER_INVALID'])
    expect(await told(hook, { body: '{"region":{"$ne":1}}' })).toEqual([422, 'PARAMETER_INVALID'])
    expect(await told(hook, { body: `{"x":"${'x'.repeat(262_144)}"}` })).toEqual([413, 'TOO_LARGE'])
    expect(await runsOf(hook)).toEqual([])
  })
  test('of too many messages, with the time to wait', async () => {
    const hook = await makeHook({ messagesPerMinute: 2 })
    // Two in this minute and, should it end meanwhile, two in the next.
    const answers = []
    for (let n = 0; n < 6; n++) answers.push(await send(hook))
    const refused = answers.filter(({ status }) => status === 429)
    expect(refused.length).toBeGreaterThanOrEqual(2)
    expect(refused.map(({ body }) => body.errors[0].extensions.code)).toEqual(refused.map(() => 'RATE_LIMITED'))
    expect(Math.min(...refused.map(({ headers }) => Number(headers.get('retry-after'))))).toBeGreaterThan(0)
  })
  test('of a used-up quota and a suspended tenant', async () => {
    const hook = await makeHook()
    await tamper(
      plane.ports.db,
      sql`update app.tenant_limit set runs_per_month = 1 where tenant_id = ${hook.tenant.id}`,
    )
    await send(hook)
    expect(await told(hook, {})).toEqual([429, 'QUOTA_EXCEEDED'])
    await tamper(plane.ports.db, sql`update app.tenant set status = 'suspended' where id = ${hook.tenant.id}`)
    expect(await told(hook, {})).toEqual([409, 'TENANT_NOT_ACTIVE'])
  })
})

describe('a webhook', () => {
  test('shows its secret once, and no dump of the database holds it', async () => {
    const hook = await makeHook()
    const { text, errors } = await plane.query(
      '{ webhooks { nodes { id url name pipelinePath parameters mapping messagesPerMinute version lastUsedAt } } }',
      hook.tenant,
    )
    expect(errors).toEqual([])
    expect(text).toContain(hook.id)
    const bare = hook.secret.replace('whsec_', '')
    expect(text).not.toContain(bare)
    expect(await dumpOf(plane.ports.db)).not.toContain(bare)
  })

  test('goes on through a rotation of the tenant’s key, the secret before it as well', async () => {
    const hook = await makeHook()
    const rotated = await mutate(hook.tenant, 'rotateWebhook', { id: hook.id }, 'secret')
    const { data } = await plane.query(
      'mutation ($input: RotateTenantKeyInput!) { rotateTenantKey(input: $input) { done resealed errors { code } } }',
      { token: plane.platformToken, variables: { input: { tenantId: hook.tenant.id } } },
    )
    expect(data.rotateTenantKey).toMatchObject({ done: true, errors: [] })
    expect((await send(hook)).status).toBe(202)
    expect((await send(hook, { secret: rotated.secret })).status).toBe(202)
  })

  test.for([
    [{ name: 'Ä' }, 'BAD_INPUT', 'name'],
    [{ pipeline: 'no/such/one' }, 'NOT_FOUND', 'pipeline'],
    [{ parameters: { nothing: 1 } }, 'BAD_INPUT', 'parameters'],
    [{ mapping: { nothing: 'a.b' } }, 'BAD_INPUT', 'mapping'],
    [{ mapping: { region: 'a..b' } }, 'BAD_INPUT', 'mapping'],
    [{ environment: 'prod' }, 'NOT_FOUND', 'environment'],
    [{ messagesPerMinute: 0 }, 'BAD_INPUT', 'messagesPerMinute'],
    [{ name: 'orders' }, 'ALREADY_EXISTS', 'name'],
  ] as const)('is refused with %o as %s at %s', async ([input, code, place]) => {
    const { tenant } = await makeHook()
    expect((await mutate(tenant, 'createWebhook', { name: 'other', pipeline: path, ...input })).errors).toEqual([
      { code, path: [place] },
    ])
  })

  test('of another tenant is as if there were none', async () => {
    const [a, b] = [await makeHook(), await makeHook()]
    for (const name of ['rotateWebhook', 'deleteWebhook'])
      expect((await mutate(b.tenant, name, { id: a.id })).errors).toEqual(
        (await mutate(b.tenant, name, { id: 'whk_0' })).errors,
      )
    expect((await send(a)).status).toBe(202)
  })
})

test('what libraries of Standard Webhooks sign is what we verify', async () => {
  // The published example of the specification's libraries.
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const message = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', timestamp: '1614265330', body: '{"test": 2432232314}' }
  const signature = 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
  expect(await signMessage(secret, message)).toBe(signature)
  expect(await isSigned([secret], { ...message, signature })).toBe(true)
})
