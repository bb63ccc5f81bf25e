import { afterAll, beforeAll, expect, test } from 'vitest'
import { answerBytesMax, writeJson } from '../../control-plane/http/write-json.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Db } from '../../shared/db/db.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

/** An app whose database holds every transaction after the key was looked up, before or after its work, until it is let go. */
function slowApp(at: 'before' | 'after', executionMs: number) {
  let letGo = (): void => undefined
  const gate = new Promise<void>((resolve) => (letGo = resolve))
  let seen = 0
  const done: Promise<unknown>[] = []
  const transaction: Db['transaction'] = (work, config) => {
    // The first two look up the key and the limits.
    if (++seen <= 2) return plane.ports.db.transaction(work, config)
    const held = (async () => {
      if (at === 'before') await gate
      return plane.ports.db.transaction(work, config)
    })()
    done.push(held.catch(() => undefined))
    return held
  }
  const db = new Proxy(plane.ports.db, {
    get: (target, name) => (name === 'transaction' ? transaction : Reflect.get(target, name, target)),
  })
  return { app: plane.appWith({ waits: { executionMs } }, { db }), letGo, ended: () => Promise.all(done) }
}

test('a request that takes too long is told so, and commits nothing afterwards', async () => {
  const { app, letGo, ended } = slowApp('before', 100)
  const answer = await plane.query('mutation { createApiKey(input: { name: "late" }) { token errors { code } } }', {
    token: a.token,
    app,
  })
  expect([answer.status, answer.errors.map(({ extensions }) => extensions.code)]).toEqual([504, ['TIMED_OUT']])
  expect(answer.data).toBeUndefined()
  letGo()
  await ended()
  const { data } = await plane.query('{ apiKeys(first: 100) { nodes { name } } }', a)
  expect(data.apiKeys.nodes.map(({ name }: { name: string }) => name)).not.toContain('late')
})

test('a request that is late with one of its parts begins no further one', async () => {
  const { app, letGo, ended } = slowApp('before', 100)
  const answer = await plane.query('{ a: runs { nodes { id } } b: users { nodes { id roles } } }', {
    token: a.token,
    app,
  })
  expect(answer.errors.map(({ extensions }) => extensions.code)).toEqual(['TIMED_OUT'])
  letGo()
  await ended()
})

test('what waits for a worker has the time that it declares beside what all have', async () => {
  const limits: number[] = []
  // Whoever sleeps here wakes up when nobody needs it any more.
  const clock: Clock = {
    now: systemClock.now,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        limits.push(ms)
        signal?.addEventListener('abort', () => resolve())
      }),
  }
  const waits = { executionMs: 5_000, provisionMs: 40 }
  const app = plane.appWith({ waits }, { clock })
  const timesOf = async (document: string, variables = {}): Promise<number[]> => {
    limits.length = 0
    const { errors } = await plane.query(document, { token: a.token, app, variables })
    expect(errors).toEqual([])
    return limits.filter((ms) => ms >= waits.executionMs)
  }
  expect(await timesOf('{ viewer { tenantId } }')).toEqual([5_000])
  const secret = { host: 'h', username: 'u', password: 'p1234567', hostKey: `SHA256:${'A'.repeat(43)}` }
  const create =
    'mutation ($s: JSON!) { createCredential(input: { name: "x", provider: "sftp", secret: $s }) { errors { code } } }'
  expect(await timesOf(create, { s: secret })).toEqual([5_000])
  const one = 'testCredential(input: { name: "x" }) { ok errors { code } }'
  expect(await timesOf(`mutation { ${one} }`)).toEqual([5_040])
  // One after the other, and so are their waits.
  expect(await timesOf(`mutation { a: ${one} b: ${one} }`)).toEqual([5_080])
})

test('an answer of more than 4 MB is refused with the figure, and one below is whole', async () => {
  const yaml = `pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n# ${'€'.repeat(60_000)}\n`
  for (let i = 0; i < 25; i++) {
    const saved = await plane.query(
      'mutation ($i: SavePipelineInput!) { savePipeline(input: $i) { errors { code } } }',
      {
        token: a.token,
        variables: { i: { path: `a/b/p${i}`, yaml } },
      },
    )
    expect(saved.data.savePipeline.errors).toEqual([])
  }
  const read = (first: number) =>
    plane.query(`{ pipelines(first: ${first}) { nodes { path yaml } } }`, { token: a.token })
  const all = await read(25)
  expect([all.status, all.errors.map(({ message }) => message)]).toEqual([
    413,
    [`The answer is larger than ${answerBytesMax} bytes.`],
  ])
  expect(all.errors[0]?.extensions.code).toBe('TOO_LARGE')
  expect(all.text.length).toBeLessThan(1000)
  const some = await read(20)
  expect(some.data.pipelines.nodes).toHaveLength(20)
  expect(some.data.pipelines.nodes.every((node: { yaml: string }) => node.yaml === yaml)).toBe(true)
})

test('JSON is what the engine would write, and is measured in bytes of UTF-8', () => {
  const values: unknown[] = [
    { data: { a: [1, 'x', null, true, { b: [[], {}] }], c: undefined, d: '€😀\ud800"\\\n' } },
    { errors: [new Error('no')], extensions: { at: new Date(0) } },
    [undefined, () => 1],
    'text',
    null,
    { deep: { deep: { deep: { deep: { deep: { deep: [1, { x: undefined }] } } } } } },
  ]
  for (const value of values) {
    const text = JSON.stringify(value)
    expect(writeJson(value)).toBe(text)
    const bytes = Buffer.byteLength(text)
    expect(writeJson(value, bytes)).toBe(text)
    expect(() => writeJson(value, bytes - 1)).toThrow(`larger than ${bytes - 1} bytes`)
  }
})
