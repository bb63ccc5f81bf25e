import { createHash } from 'node:crypto'
import { glob, readFile } from 'node:fs/promises'
import { parse, validate } from 'graphql'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { schema } from '../../control-plane/graphql/schema.ts'
import operations from '../../schema/operations.json' with { type: 'json' }
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'
import { goodPassword, people } from '../support/people.ts'

let plane: ControlPlane
let production: ControlPlane['app']
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  production = plane.appWith({ sessionsRunPersistedOnly: undefined })
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const idOf = (start: string): string =>
  Object.entries(operations).find(([, text]) => text.includes(`${start}`))?.[0] ?? 'none'
const post = async (
  body: object,
  { token, app = production }: { token?: string; app?: ControlPlane['app'] },
): Promise<{ status: number; body: Loose }> => {
  const headers = { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) }
  const response = await app.fetch(
    new Request('http://edge.example/graphql', { method: 'POST', headers, body: JSON.stringify(body) }),
  )
  return { status: response.status, body: await response.json() }
}
const session = async (): Promise<string> => {
  const { userId } = await plane.person(a.id, 'TENANT_ADMIN')
  return plane.session(a.id, userId)
}

test('the published operations are those of the files, by the hash of their text, and fit the schema', async () => {
  const files: Record<string, string> = {}
  for await (const path of glob('schema/operations/*.graphql', { cwd: new URL('../..', import.meta.url) })) {
    const text = await readFile(new URL(`../../${path}`, import.meta.url), 'utf8')
    files[createHash('sha256').update(text).digest('hex')] = text
    expect([path, validate(schema, parse(text))]).toEqual([path, []])
  }
  expect(operations).toEqual(files)
  expect(Object.keys(files).length).toBeGreaterThanOrEqual(12)
})

test('an operation is asked for by its id, in either form, with its variables', async () => {
  const id = idOf('query Runs(')
  for (const named of [
    { documentId: id },
    { documentId: `sha256:${id}` },
    { extensions: { persistedQuery: { version: 1, sha256Hash: id } } },
    { query: null, documentId: id },
  ]) {
    const { body } = await post({ ...named, variables: { first: 1 } }, a)
    expect(body.data).toEqual({ runs: { nodes: [], pageInfo: { hasNextPage: false, endCursor: null } } })
  }
  for (const unknown of ['0'.repeat(64), 'constructor', '__proto__', '']) {
    const { status, body } = await post({ documentId: unknown }, a)
    expect([status, body.errors[0].extensions.code]).toEqual([404, 'NOT_FOUND'])
  }
})

test('people run published operations only, by id or to the letter; keys run what they like', async () => {
  const token = await session()
  const free = await post({ query: '{ viewer { tenantId } }' }, { token })
  expect([free.status, free.body.errors[0].extensions.code]).toEqual([403, 'FORBIDDEN'])
  const viewer = operations[idOf('query Viewer') as keyof typeof operations]
  expect((await post({ documentId: idOf('query Viewer') }, { token })).body.data.viewer.tenantId).toBe(a.id)
  expect((await post({ query: viewer }, { token })).body.data.viewer.tenantId).toBe(a.id)
  expect((await post({ query: `${viewer} ` }, { token })).status).toBe(403)
  // An id beside a document of one's own does not make it a published one.
  const both = await post({ query: '{ viewer { tenantId } }', documentId: idOf('query Viewer') }, { token })
  expect(both.status).toBe(403)
  expect((await post({ query: '{ viewer { tenantId } }' }, a)).body.data.viewer.tenantId).toBe(a.id)
})

test('a deployment in development, or one that says so, lets people ask what they like', async () => {
  const token = await session()
  for (const app of [
    plane.appWith({ sessionsRunPersistedOnly: undefined, development: true }),
    plane.appWith({ sessionsRunPersistedOnly: false }),
  ])
    expect((await post({ query: '{ viewer { tenantId } }' }, { token, app })).status).toBe(200)
})

test('somebody signs in by a published operation', async () => {
  const { tenantId, email } = await people(plane).signUp(a)
  const input = { tenantId, email, password: goodPassword }
  const { body } = await post({ documentId: idOf('mutation Login'), variables: { input } }, {})
  expect(body.data.login.errors).toEqual([])
  const { accessToken } = body.data.login.tokens
  const viewer = await post({ documentId: idOf('query Viewer') }, { token: accessToken })
  expect(viewer.body.data.viewer.tenantId).toBe(a.id)
  // Everything else stays unsaid to strangers, published or not.
  expect((await post({ documentId: idOf('query Viewer') }, {})).status).toBe(401)
})
