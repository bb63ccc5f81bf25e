import { afterAll, beforeAll, expect, test } from 'vitest'
import { cursorsOf } from '../../control-plane/graphql/cursor.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let b: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  b = await plane.tenant()
  for (const { id } of [a, b]) for (let i = 0; i < 3; i++) await plane.key(id)
})
afterAll(() => plane[Symbol.asyncDispose]())

const cursorOf = async (list: string, token: string, app = plane.app): Promise<string> => {
  const { data } = await plane.query(`{ ${list} { pageInfo { endCursor } } }`, { token, app })
  return data[list.replace(/\(.*/, '')].pageInfo.endCursor
}
const codeOf = async (list: string, cursor: string, token: string, app = plane.app): Promise<string | undefined> => {
  const field = list.endsWith(')') ? `${list.slice(0, -1)}, after: $after)` : `${list}(after: $after)`
  const { errors } = await plane.query(`query ($after: String) { ${field} { pageInfo { endCursor } } }`, {
    token,
    app,
    variables: { after: cursor },
  })
  return errors[0]?.extensions.code
}
const keys = (current: string, ...ids: string[]) =>
  signingKeys({
    current,
    keys: Object.fromEntries(ids.map((id) => [id, btoa(`${id}-secret-of-the-platform-0123456789`.slice(0, 32))])),
  })

test('a cursor counts for its own tenant, list and filter, and for no other', async () => {
  const own = await cursorOf('apiKeys(first: 1)', a.token)
  expect(await codeOf('apiKeys(first: 1)', own, a.token)).toBeUndefined()
  expect(await codeOf('apiKeys(first: 1)', own, b.token)).toBe('BAD_CURSOR')
  expect(await codeOf('users(first: 1)', own, a.token)).toBe('BAD_CURSOR')
  // The platform reads lists of tenants, but not by their cursors.
  const { errors } = await plane.query(`{ tenant(id: "${a.id}") { apiKeys(after: "${own}") { nodes { id } } } }`, {
    token: plane.platformToken,
  })
  expect(errors[0]?.extensions.code).toBe('BAD_CURSOR')
  await plane.query('mutation { createUser(input: { email: "jo@x.example" }) { errors { code } } }', a)
  const filtered = await cursorOf('auditLog(filter: { action: "user.created" })', a.token)
  expect(await codeOf('auditLog(filter: { action: "user.created" })', filtered, a.token)).toBeUndefined()
  expect(await codeOf('auditLog(filter: { action: "user.changed" })', filtered, a.token)).toBe('BAD_CURSOR')
  expect(await codeOf('auditLog', filtered, a.token)).toBe('BAD_CURSOR')
})

test('a cursor with one bit flipped, whichever it is, counts for nothing', async () => {
  const cursors = await cursorsOf({ auth: { tenantId: a.id }, ports: plane.ports }, ['any'])
  const cursor = cursors.at(['2026-01-02T03:04:05Z', 'run_1'])
  expect(await cursors.read(cursor)).toEqual(['2026-01-02T03:04:05Z', 'run_1'])
  let flips = 0
  for (let at = 0; at < cursor.length; at++)
    for (let bit = 0; bit < 16; bit++) {
      const flipped =
        cursor.slice(0, at) + String.fromCharCode(cursor.charCodeAt(at) ^ (1 << bit)) + cursor.slice(at + 1)
      expect([flipped, await cursors.read(flipped)]).toEqual([flipped, undefined])
      flips++
    }
  expect(flips).toBe(cursor.length * 16)
})

test('other spellings of the same bytes are other cursors', async () => {
  const cursor = await cursorOf('apiKeys(first: 1)', a.token)
  const [body = '', tag = ''] = cursor.split('.')
  const parts = JSON.parse(Buffer.from(body, 'base64url').toString())
  const spaced = Buffer.from(JSON.stringify(parts, null, 1)).toString('base64url')
  for (const other of [
    `${cursor}=`,
    `${cursor}.`,
    `${cursor} `,
    `${spaced}.${tag}`,
    body,
    `${body}.`,
    `${body}.${tag.slice(0, -2)}`,
  ])
    expect([other, await codeOf('apiKeys(first: 1)', other, a.token)]).toEqual([other, 'BAD_CURSOR'])
})

test('a cursor shows the place of its own row and nothing else', async () => {
  const { data } = await plane.query('{ apiKeys(first: 1) { nodes { id } edges { cursor } } }', a)
  const [body = '', tag = ''] = data.apiKeys.edges[0].cursor.split('.')
  const id = data.apiKeys.nodes[0].id
  expect(JSON.parse(Buffer.from(body, 'base64url').toString())).toEqual(['k1', id, id])
  expect(Buffer.from(tag, 'base64url')).toHaveLength(16)
})

test('a cursor outlives a new platform key, and not its own', async () => {
  const appWith = (signing: ReturnType<typeof keys>) => plane.appWith({}, { signing })
  const cursor = await cursorOf('apiKeys(first: 1)', a.token, appWith(keys('p1', 'p1')))
  expect(await codeOf('apiKeys(first: 1)', cursor, a.token, appWith(keys('p2', 'p1', 'p2')))).toBeUndefined()
  expect(await codeOf('apiKeys(first: 1)', cursor, a.token, appWith(keys('p2', 'p2')))).toBe('BAD_CURSOR')
  expect(await codeOf('apiKeys(first: 1)', cursor.replace(/^[^.]+/, 'W10'), a.token)).toBe('BAD_CURSOR')
})
