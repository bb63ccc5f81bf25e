import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { answerOfValues, valuesOfAnswer } from '../../control-plane/idempotency/answer-values.ts'
import { rowsOf, withLedger, withTenant } from '../../shared/db/db.ts'
import { claimSteps, completeStep } from '../../shared/runs/ledger.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose, until } from '../support/control-plane.ts'
import { dumpOf } from '../support/database.ts'
import { movableClock } from '../support/people.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const documents: Record<string, string> = {
  createUser: '{ user { id email createdAt roles } errors { code path } }',
  createApiKey: '{ apiKey { id createdAt } token errors { code path } }',
  testCredential: '{ ok errors { code path } }',
  deleteUser: '{ errors { code } }',
  offboardTenant: '{ errors { code } }',
}
type Options = { token?: string; header?: string; app?: ControlPlane['app'] }
const ask = (
  name: string,
  input: object,
  { token = a.token, header, app = plane.app }: Options = {},
): Promise<Answer> => {
  const type = name === 'deleteUser' ? 'UserInput' : `${name.charAt(0).toUpperCase()}${name.slice(1)}Input`
  return plane.query(`mutation ($input: ${type}!) { ${name}(input: $input) ${documents[name]} }`, {
    token,
    app,
    variables: { input },
    headers: header === undefined ? {} : { 'idempotency-key': header },
  })
}
const isReplay = (answer: Answer): boolean => JSON.parse(answer.text).extensions.idempotentReplay === true
const codes = (payload: Loose): string[] => payload.errors.map(({ code }: { code: string }) => code)
const countOf = async (table: string, tenantId = a.id): Promise<number> => {
  const [row] = await withTenant(plane.ports.db, { tenantId, side: 'api' }, (tx) =>
    rowsOf<{ n: number }>(tx, sql`select count(*)::int as n from ${sql.raw(`app.${table}`)}`),
  )
  return row?.n ?? 0
}

test('a repeat is answered as the first time and does nothing', async () => {
  const input = { email: 'one@x.example', idempotencyKey: 'users-1' }
  const first = await ask('createUser', input)
  expect([codes(first.data.createUser), isReplay(first)]).toEqual([[], false])
  const [users, entries] = [await countOf('tenant_user'), await countOf('audit_event')]
  const again = await ask('createUser', input)
  expect(again.data).toEqual(first.data)
  expect(isReplay(again)).toBe(true)
  expect([await countOf('tenant_user'), await countOf('audit_event')]).toEqual([users, entries])
})

test('the header stands in for the key of the one mutation of a document', async () => {
  const first = await ask('createUser', { email: 'two@x.example' }, { header: 'users-2' })
  expect(codes(first.data.createUser)).toEqual([])
  const again = await ask('createUser', { email: 'two@x.example' }, { header: 'users-2' })
  expect([again.data, isReplay(again)]).toEqual([first.data, true])
  // The same key in the input is the same key; that of the input wins over the header.
  const inInput = await ask(
    'createUser',
    { email: 'two@x.example', idempotencyKey: 'users-2' },
    { header: 'users-other' },
  )
  expect(isReplay(inInput)).toBe(true)
  const two = await plane.query(
    'mutation { a: createUser(input: { email: "x@x.example" }) { errors { code } } b: createUser(input: { email: "y@x.example" }) { errors { code } } }',
    { token: a.token, headers: { 'idempotency-key': 'users-3' } },
  )
  expect(two.errors[0]?.extensions.code).toBe('BAD_INPUT')
  const session = await plane.query('mutation { logout(input: {}) { errors { code } } }', {
    token: a.token,
    headers: { 'idempotency-key': 'users-3' },
  })
  expect(session.errors[0]?.message).toContain('takes no idempotency key')
  const query = await plane.query('{ viewer { tenantId } }', {
    token: a.token,
    headers: { 'idempotency-key': 'users-3' },
  })
  expect(query.errors).toEqual([])
})

test('the same key with another input is refused, of another mutation or tenant it is another key', async () => {
  const key = { idempotencyKey: 'shared' }
  expect(codes((await ask('createUser', { email: 'three@x.example', ...key })).data.createUser)).toEqual([])
  const other = (await ask('createUser', { email: 'four@x.example', ...key })).data.createUser
  expect(other.errors).toEqual([{ code: 'IDEMPOTENCY_KEY_REUSED', path: ['idempotencyKey'] }])
  expect(codes((await ask('createApiKey', { name: 'three', ...key })).data.createApiKey)).toEqual([])
  const b = await plane.tenant()
  const elsewhere = await ask('createUser', { email: 'three@x.example', ...key }, b)
  expect([codes(elsewhere.data.createUser), isReplay(elsewhere)]).toEqual([[], false])
  for (const idempotencyKey of ['', 'with space', 'ü', 'x'.repeat(201)])
    expect(codes((await ask('createUser', { email: 'five@x.example', idempotencyKey })).data.createUser)).toEqual([
      'BAD_INPUT',
    ])
})

test('a refusal leaves nothing behind, not even the key', async () => {
  const input = { email: 'one@x.example', idempotencyKey: 'refused' }
  const before = await countOf('idempotent_request')
  expect(codes((await ask('createUser', input)).data.createUser)).toEqual(['ALREADY_EXISTS'])
  expect(await countOf('idempotent_request')).toBe(before)
  const corrected = await ask('createUser', { ...input, email: 'six@x.example' })
  expect(codes(corrected.data.createUser)).toEqual([])
})

describe('a secret that is shown once', () => {
  const input = { name: 'for a program', idempotencyKey: 'keys-1' }
  let token = ''

  test('comes again with a repeat, and lies nowhere in the clear', async () => {
    const first = await ask('createApiKey', input)
    token = first.data.createApiKey.token
    const again = await ask('createApiKey', input)
    expect(again.data).toEqual(first.data)
    expect((await plane.query('{ viewer { tenantId } }', { token })).data.viewer.tenantId).toBe(a.id)
    const dump = await dumpOf(plane.ports.db)
    expect(dump).toContain('keys-1')
    expect(dump).not.toContain(token.split('.')[1])
    expect(plane.logged.join('\n')).not.toContain(token.split('.')[1])
  })

  test('comes to nobody else, whatever key that one guesses', async () => {
    const other = await ask('createApiKey', input, { token: await plane.key(a.id) })
    expect(other.data.createApiKey).toMatchObject({
      token: null,
      apiKey: null,
      errors: [{ code: 'IDEMPOTENCY_KEY_REUSED' }],
    })
  })

  test('is left out once the data key that sealed it is gone; what it opens is answered', async () => {
    await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, async (tx) => {
      await plane.ports.secrets.rotateTenantKey(tx, a.id)
      await plane.ports.secrets.destroyTenantKeys(tx, a.id, 'retired')
    })
    const again = await ask('createApiKey', input)
    expect(again.data.createApiKey).toMatchObject({ token: null, apiKey: { id: token.split('.')[0] }, errors: [] })
    expect(isReplay(again)).toBe(true)
  })
})

test('of an input there is a hash that nobody without the platform key can make', async () => {
  const password = 'hunter22-hunter22'
  await plane.query(
    'mutation ($s: JSON!) { createCredential(input: { name: "c", provider: "sftp", secret: $s, idempotencyKey: "cred-1" }) { errors { code } } }',
    {
      token: a.token,
      variables: { s: { host: 'h', username: 'u', password, hostKey: `SHA256:${'A'.repeat(43)}` } },
    },
  )
  const [row] = await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
    rowsOf<{ input_hash: string }>(tx, sql`select input_hash from app.idempotent_request where key = 'cred-1'`),
  )
  expect(row?.input_hash).toMatch(/^k1:[0-9a-f]{64}$/)
  expect(await dumpOf(plane.ports.db)).not.toContain(password)
})

test('many equal requests at once have one effect and one answer', async () => {
  const input = { email: 'at-once@x.example', idempotencyKey: 'at-once' }
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask('createUser', input)))
  expect(new Set(answers.map(({ data }) => data.createUser.user.id)).size).toBe(1)
  expect(answers.filter((answer) => !isReplay(answer))).toHaveLength(1)
})

describe('what waits for a worker', () => {
  const secret = { host: 'h', username: 'u', password: 'p1234567', hostKey: `SHA256:${'A'.repeat(43)}` }
  const runs = () => countOf('pipeline_run')
  beforeAll(async () => {
    await plane.query(
      'mutation ($s: JSON!) { createCredential(input: { name: "partner", provider: "sftp", secret: $s }) { errors { code } } }',
      { token: a.token, variables: { s: secret } },
    )
  })

  test('is claimed meanwhile: the second hears that the first is at work, and later its answer', async () => {
    const before = await runs()
    const input = { name: 'partner', idempotencyKey: 'test-1' }
    const first = ask('testCredential', input)
    await until('the first has begun', async () => (await runs()) > before)
    expect((await ask('testCredential', input)).data.testCredential.errors).toEqual([
      { code: 'CONFLICT', path: ['idempotencyKey'] },
    ])
    const work = { worker: 'wrk_test', queues: queueTypes, limit: 1, leaseMs: 30_000, tenants: [a.id] }
    for (const claimed of await claimSteps(plane.ports.db, work))
      await completeStep(plane.ports.db, claimed, { ok: true }, [])
    expect((await first).data.testCredential).toEqual({ ok: true, errors: [] })
    const again = await ask('testCredential', input)
    expect([again.data.testCredential, isReplay(again)]).toEqual([{ ok: true, errors: [] }, true])
    expect(await runs()).toBe(before + 1)
  })

  test('leaves the key when it comes to nothing, and when its process dies the claim lapses', async () => {
    const app = plane.appWith({ waits: { provisionMs: 50 } })
    const input = { name: 'partner', idempotencyKey: 'test-2' }
    expect(codes((await ask('testCredential', input, { app })).data.testCredential)).toEqual(['UNAVAILABLE'])
    expect(codes((await ask('testCredential', input, { app })).data.testCredential)).toEqual(['UNAVAILABLE'])
    // As a process leaves it that died at work.
    const clock = movableClock()
    const later = plane.appWith({ waits: { provisionMs: 50 } }, { clock })
    await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
      tx.execute(sql`update app.idempotent_request set key = 'test-3', answered_at = null, answer = null,
        claimed_until = now() + interval '5 minutes' where key = 'test-1'`),
    )
    const repeat = { name: 'partner', idempotencyKey: 'test-3' }
    expect(codes((await ask('testCredential', repeat, { app: later })).data.testCredential)).toEqual(['CONFLICT'])
    clock.forward(301_000)
    expect(codes((await ask('testCredential', repeat, { app: later })).data.testCredential)).toEqual(['UNAVAILABLE'])
  })
})

test('a caller’s key stands in the way of no run of the platform’s own', async () => {
  const t = await plane.tenant()
  const ask = (document: string, variables: object) => plane.query(document, { token: t.token, variables })
  const yaml = 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'
  await ask('mutation ($i: SavePipelineInput!) { savePipeline(input: $i) { errors { code } } }', {
    i: { path: 'x/y/z', yaml },
  })
  for (const idempotencyKey of ['offboard', 'offboard-export', 'provision']) {
    const { data } = await ask(
      'mutation ($i: RunPipelineInput!) { runPipeline(input: $i) { run { idempotencyKey } errors { code } } }',
      { i: { pipeline: 'x/y/z', idempotencyKey } },
    )
    expect(data.runPipeline).toEqual({ run: { idempotencyKey }, errors: [] })
  }
  const [row] = await withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, (tx) =>
    rowsOf<{ n: number }>(
      tx,
      sql`select count(*)::int as n from app.pipeline_run where idempotency_key in ('offboard', 'offboard-export', 'provision')`,
    ),
  )
  expect(row?.n).toBe(0)
})

test('after a day a key is free again, and what was kept is swept', async () => {
  const clock = movableClock(Date.now())
  const app = plane.appWith({}, { clock })
  const input = { name: 'daily', idempotencyKey: 'daily' }
  const first = await ask('createApiKey', input, { app })
  clock.forward(86_399_000)
  expect(isReplay(await ask('createApiKey', input, { app }))).toBe(true)
  clock.forward(2_000)
  const next = await ask('createApiKey', input, { app })
  expect([isReplay(next), codes(next.data.createApiKey)]).toEqual([false, []])
  expect(next.data.createApiKey.apiKey.id).not.toBe(first.data.createApiKey.apiKey.id)

  const kept = await countOf('idempotent_request')
  await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
    tx.execute(sql`update app.idempotent_request set expires_at = now() - interval '1 second' where key = 'daily'`),
  )
  await withLedger(plane.ports.db, 'worker', (tx) => tx.execute(sql`select app.sweep_requests(100)`))
  expect(await countOf('idempotent_request')).toBe(kept - 1)
})

test('what was answered about a person goes with that person', async () => {
  const input = { email: 'leaver@x.example', idempotencyKey: 'leaver' }
  const { id } = (await ask('createUser', input)).data.createUser.user
  expect(codes((await ask('deleteUser', { id })).data.deleteUser)).toEqual([])
  const [row] = await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
    rowsOf<{ text: string }>(tx, sql`select string_agg(r::text, '') as text from app.idempotent_request r`),
  )
  expect(row?.text).not.toContain('leaver@x.example')
  expect(codes((await ask('createUser', input)).data.createUser)).toEqual(['CONFLICT'])
})

test('an answer comes back as it was, moments as moments', () => {
  const answers = [
    { at: new Date(5), list: [new Date(6), { at: null }], n: 1, text: 'x', no: false },
    { forged: { $is: 'moment', value: 'x' }, twice: { $is: 'object', value: { $is: 'moment', value: 'y' } } },
    {},
  ]
  for (const answer of answers)
    expect(answerOfValues(JSON.parse(JSON.stringify(valuesOfAnswer(answer))))).toEqual(answer)
})
