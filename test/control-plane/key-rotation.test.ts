import { and, eq, sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { credential, tenantKey } from '../../schema/tables/index.ts'
import { type Db, withTenant } from '../../shared/db/db.ts'
import { openStored } from '../../shared/secrets/secret-box.ts'
import type { App } from '../../control-plane/app.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

const rotate = async (tenantId: string, app?: App) =>
  (
    await plane.query(
      'mutation ($input: RotateTenantKeyInput!) { rotateTenantKey(input: $input) { version resealed done errors { code } } }',
      { token: plane.platformToken, variables: { input: { tenantId } }, ...(app ? { app } : {}) },
    )
  ).data?.rotateTenantKey

// A tenant with `count` credentials, whose password says which they are.
async function tenantWith(count: number): Promise<{ id: string; token: string }> {
  const t = await plane.tenant()
  for (let i = 0; i < count; i++) {
    const variables = {
      input: { name: `c${i}`, provider: 'sftp', secret: { host: 'h', username: 'u', password: `p${i}` } },
    }
    await plane.query(
      'mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { errors { code } } }',
      {
        token: t.token,
        variables,
      },
    )
  }
  return t
}

const openAsWorker = (tenantId: string, name: string) =>
  withTenant(plane.ports.db, { tenantId, side: 'worker' }, (tx) =>
    openStored(tx, plane.ports.secrets, async () => {
      const [row] = await tx
        .select()
        .from(credential)
        .where(and(eq(credential.tenantId, tenantId), eq(credential.name, name)))
      return row && { ...row, owner: { tenantId, credentialId: row.id, version: row.version } }
    }),
  )
const sealingKeys = async (tenantId: string) =>
  new Set(
    (
      await withTenant(plane.ports.db, { tenantId, side: 'api' }, (tx) =>
        tx.select({ sealed: credential.sealed }).from(credential).where(eq(credential.tenantId, tenantId)),
      )
    ).map(({ sealed }) => sealed.key),
  )
const keyStates = async (tenantId: string) =>
  (
    await withTenant(plane.ports.db, { tenantId, side: 'api' }, (tx) =>
      tx.select().from(tenantKey).where(eq(tenantKey.tenantId, tenantId)).orderBy(tenantKey.version),
    )
  ).map(({ state, wrappedKey }) => [state, wrappedKey !== ''])

test('a rotation seals every credential anew and leaves no old key', async () => {
  const t = await tenantWith(3)
  expect(await rotate(t.id)).toEqual({ version: 2, resealed: 3, done: true, errors: [] })
  expect(await sealingKeys(t.id)).toEqual(new Set([2]))
  expect(await keyStates(t.id)).toEqual([
    ['lake', true],
    ['destroyed', false],
    ['current', true],
  ])
  for (const i of [0, 1, 2]) expect((await openAsWorker(t.id, `c${i}`))?.secret).toMatchObject({ password: `p${i}` })
  const { data } = await plane.query('{ credentials { nodes { version } } auditLog { nodes { action } } }', t)
  expect(data.credentials.nodes).toEqual([{ version: 1 }, { version: 1 }, { version: 1 }])
  const actions = data.auditLog.nodes.map((row: { action: string }) => row.action)
  expect(actions).toEqual(expect.arrayContaining(['tenant_key.rotated', 'tenant_key.destroyed']))
})

test('opening and replacing while keys rotate never fails and loses no value', async () => {
  const t = await tenantWith(4)
  const over = new AbortController()
  let opened = 0
  const open = async (): Promise<void> => {
    while (!over.signal.aborted) {
      for (const i of [0, 1, 2]) {
        const found = await openAsWorker(t.id, `c${i}`)
        expect(found?.secret).toMatchObject({ password: `p${i}` })
        opened++
      }
    }
  }
  let written = 0
  const replace = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const answer = await plane.query(
        'mutation ($input: UpdateCredentialInput!) { updateCredential(input: $input) { errors { code } } }',
        {
          token: t.token,
          variables: { input: { name: 'c3', secret: { host: 'h', username: 'u', password: `p-${++written}` } } },
        },
      )
      expect(answer.data?.updateCredential.errors).toEqual([])
    }
  }
  const work = [open(), open(), replace()]
  for (let i = 0; i < 5; i++) expect(await rotate(t.id)).toMatchObject({ done: true, errors: [] })
  over.abort()
  await Promise.all(work)
  expect(opened).toBeGreaterThan(0)
  expect((await openAsWorker(t.id, 'c3'))?.secret).toMatchObject({ password: `p-${written}` })
  expect(await sealingKeys(t.id)).toEqual(new Set([6]))
})

test('killed between any two transactions, a repeat goes on and makes no further key', async () => {
  let wasKilled = true
  let place = 0
  for (; wasKilled; place++) {
    const t = await tenantWith(2)
    wasKilled = false
    let left = place
    const db = new Proxy(plane.ports.db, {
      get(target, name, receiver) {
        if (name !== 'transaction') return Reflect.get(target, name, receiver)
        return (work: Parameters<Db['transaction']>[0]) => {
          if (left-- > 0) return target.transaction(work)
          wasKilled = true
          return Promise.reject(new Error('connection lost'))
        }
      },
    })
    await rotate(t.id, plane.appWith({}, { db }))
    // A rotation that had begun is finished; one that was whole, or had not begun, is followed by a whole one.
    const states = await keyStates(t.id)
    const isBegun = states.some(([state]) => state === 'retired')
    const again = await rotate(t.id)
    const versions = states.filter(([state]) => state !== 'lake').length
    expect(again).toMatchObject({ done: true, errors: [], version: isBegun ? versions : versions + 1 })
    expect(await sealingKeys(t.id)).toEqual(new Set([again.version]))
    expect((await openAsWorker(t.id, 'c1'))?.secret).toMatchObject({ password: 'p1' })
  }
  expect(place).toBeGreaterThan(4)
})

test('more credentials than one batch are all sealed anew', async () => {
  const t = await tenantWith(1)
  await withTenant(plane.ports.db, { tenantId: t.id, side: 'api' }, async (tx) => {
    for (let i = 0; i < 120; i++) {
      const owner = { tenantId: t.id, credentialId: `crd_${i}`, version: 1 }
      const sealed = await plane.ports.secrets.seal(tx, owner, { password: `p${i}` })
      await tx
        .insert(credential)
        .values({ ...owner, id: owner.credentialId, name: `many${i}`, provider: 'sftp', sealed, createdBy: 'test' })
    }
  })
  expect(await rotate(t.id)).toMatchObject({ resealed: 121, done: true })
  expect((await openAsWorker(t.id, 'many119'))?.secret).toEqual({ password: 'p119' })
})

test('only the platform rotates, and only what is there', async () => {
  const t = await plane.tenant()
  const refused = await plane.query(`mutation { rotateTenantKey(input: { tenantId: "${t.id}" }) { done } }`, t)
  expect(refused.errors[0]?.extensions.code).toBe('FORBIDDEN')
  expect((await rotate('no_such_tenant')).errors).toEqual([{ code: 'NOT_FOUND' }])
  await plane.ports.db.execute(sql`update app.tenant_key set state = 'destroyed' where tenant_id = ${t.id}`)
  expect((await rotate(t.id)).errors).toEqual([{ code: 'CONFLICT' }])
})
