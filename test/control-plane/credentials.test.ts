import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { asc, eq, sql } from 'drizzle-orm'
import { credentialShapes } from '../../schema/config/credentials.ts'
import { auditEvent, credential } from '../../schema/tables/index.ts'
import { catalog } from '../../shared/config/catalog.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { type ControlPlane, controlPlane, smallWorker } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
})
afterAll(() => plane[Symbol.asyncDispose]())

const canary = 'canary-4711-do-not-show'
const create = (input: object, token = a.token) =>
  plane.query(
    `mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { credential { id name provider version createdBy } errors { __typename code message path hint } } }`,
    { token, variables: { input } },
  )
const sftp = (name: string) => ({ name, provider: 'sftp', secret: { host: 'h', username: 'u', password: canary } })

test('a credential is stored once under its name, and opens only for its owner', async () => {
  const made = (await create(sftp('partner'))).data.createCredential
  expect(made).toMatchObject({ credential: { name: 'partner', provider: 'sftp', version: 1 }, errors: [] })
  const again = (await create({ ...sftp('partner'), secret: { ...sftp('partner').secret, host: 'other' } })).data
    .createCredential
  expect(again).toMatchObject({ credential: null, errors: [{ code: 'ALREADY_EXISTS', path: ['name'] }] })
  const opened = await withTenant(plane.ports.db, { tenantId: a.id, side: 'worker' }, async (tx) => {
    const [row] = await tx.select().from(credential)
    const owner = { tenantId: a.id, credentialId: row?.id ?? '', version: 1 }
    return plane.ports.secrets.open(tx, owner, row?.sealed)
  })
  expect(opened).toEqual({ host: 'h', port: 22, username: 'u', password: canary })
})

test('every provider that a processor takes has a form that the edge checks', () => {
  const providers = new Set(catalog.flatMap((entry) => entry.credentialProviders))
  expect([...providers].filter((provider) => !Object.hasOwn(credentialShapes, provider))).toEqual([])
})

describe('a credential in time', () => {
  const shown = 'id name provider version createdBy versions { version provider createdBy createdAt }'
  const read = async (name: string, token = a.token) =>
    (
      await plane.query(`query ($name: String!) { credential(name: $name) { ${shown} } }`, {
        token,
        variables: { name },
      })
    ).data.credential
  const update = async (input: object, token = a.token) =>
    (
      await plane.query(
        `mutation ($input: UpdateCredentialInput!) { updateCredential(input: $input) { credential { ${shown} } errors { code path message } } }`,
        { token, variables: { input } },
      )
    ).data.updateCredential
  const remove = async (name: string, token = a.token) =>
    (
      await plane.query(
        'mutation ($input: DeleteCredentialInput!) { deleteCredential(input: $input) { id errors { code path } } }',
        { token, variables: { input: { name } } },
      )
    ).data.deleteCredential
  const openedOf = (name: string) =>
    withTenant(plane.ports.db, { tenantId: a.id, side: 'worker' }, async (tx) => {
      const [row] = await tx.select().from(credential).where(eq(credential.name, name))
      const owner = { tenantId: a.id, credentialId: row?.id ?? '', version: row?.version ?? 0 }
      return plane.ports.secrets.open(tx, owner, row?.sealed)
    })
  const secret = (password: string) => ({ host: 'h', username: 'u', password })
  const actions = async (target: string) =>
    (
      await withTenant(plane.ports.db, { tenantId: a.id, side: 'api' }, (tx) =>
        tx.select().from(auditEvent).where(eq(auditEvent.target, target)).orderBy(asc(auditEvent.at)),
      )
    ).map((row) => row.action)

  test('a new value is the next version, opens instead of the old one, and stands in the history', async () => {
    await create(sftp('moving'))
    const other = await plane.key(a.id)
    const updated = await update({ name: 'moving', secret: secret('second') }, other)
    expect(updated.errors).toEqual([])
    expect(updated.credential.version).toBe(2)
    expect(await openedOf('moving')).toMatchObject({ password: 'second' })
    const found = await read('moving')
    expect(found.versions).toMatchObject([
      { version: 2, provider: 'sftp' },
      { version: 1, provider: 'sftp', createdBy: found.createdBy },
    ])
    expect(found.versions[0].createdBy).not.toBe(found.createdBy)
    expect(await actions(found.id)).toEqual(['credential.created', 'credential.replaced'])
  })

  test('who expects another version changes nothing', async () => {
    await create(sftp('expected'))
    const [first, second] = await Promise.all(
      ['one', 'two'].map((word) => update({ name: 'expected', secret: secret(word), expectedVersion: 1 })),
    )
    const codes = [first, second].map((result) => result.errors[0]?.code)
    expect(codes.toSorted()).toEqual(['CONFLICT', undefined])
    const winner = codes[0] === undefined ? 'one' : 'two'
    expect(await openedOf('expected')).toMatchObject({ password: winner })
    expect((await read('expected')).versions).toHaveLength(2)
  })

  test('a new value must fit the provider of the old one', async () => {
    await create(sftp('fitting'))
    expect(await update({ name: 'fitting', secret: { host: 'h', port: canary } })).toMatchObject({
      credential: null,
      errors: [{ code: 'CREDENTIAL_INVALID', path: ['secret'] }],
    })
    expect(await openedOf('fitting')).toMatchObject({ password: canary })
  })

  test('what was deleted is gone with its history, and its name is free', async () => {
    await create(sftp('leaving'))
    await update({ name: 'leaving', secret: secret('second') })
    const { id } = await read('leaving')
    expect(await remove('leaving')).toEqual({ id, errors: [] })
    expect(await read('leaving')).toBeNull()
    expect(await remove('leaving')).toEqual({ id: null, errors: [{ code: 'NOT_FOUND', path: ['name'] }] })
    expect(await actions(id)).toEqual(['credential.created', 'credential.replaced', 'credential.deleted'])
    await create(sftp('leaving'))
    expect((await read('leaving')).versions).toMatchObject([{ version: 1 }])
  })

  test('another tenant reads, changes and deletes none of it', async () => {
    const b = await plane.tenant()
    await create(sftp('mine'))
    expect(await read('mine', b.token)).toBeNull()
    expect((await update({ name: 'mine', secret: secret('x') }, b.token)).errors).toMatchObject([{ code: 'NOT_FOUND' }])
    expect((await remove('mine', b.token)).errors).toMatchObject([{ code: 'NOT_FOUND' }])
    expect(await openedOf('mine')).toMatchObject({ password: canary })
  })
})

test('two tenants may use one name', async () => {
  const b = await plane.tenant()
  expect((await create(sftp('partner'), b.token)).data.createCredential.errors).toEqual([])
})

test('unusable input is refused by field, without its value', async () => {
  const cases: [object, string, string][] = [
    [{ ...sftp('Bad Name') }, 'BAD_INPUT', 'name'],
    [{ ...sftp('ok'), provider: 'nonsense' }, 'CREDENTIAL_INVALID', 'provider'],
    [{ ...sftp('ok'), secret: canary }, 'BAD_INPUT', 'secret'],
    [{ ...sftp('ok'), secret: [canary] }, 'BAD_INPUT', 'secret'],
    [{ ...sftp('ok'), secret: { key: canary.repeat(4000) } }, 'BAD_INPUT', 'secret'],
    [{ ...sftp('ok'), secret: { host: 'h', username: 'u' } }, 'CREDENTIAL_INVALID', 'secret.password'],
    [{ ...sftp('ok'), secret: { ...sftp('ok').secret, port: canary } }, 'CREDENTIAL_INVALID', 'secret.port'],
    [{ ...sftp('ok'), secret: { ...sftp('ok').secret, hostKey: canary } }, 'CREDENTIAL_INVALID', 'secret.hostKey'],
    [{ ...sftp('ok'), secret: { ...sftp('ok').secret, [canary]: 'x' } }, 'CREDENTIAL_INVALID', 'secret'],
    [{ name: 'ok', provider: 'postgres', secret: { user: canary, [canary]: 1 } }, 'CREDENTIAL_INVALID', 'secret'],
    [
      { name: 'ok', provider: 'gcp', secret: { client_email: canary, private_key: canary } },
      'CREDENTIAL_INVALID',
      'secret.project_id',
    ],
  ]
  for (const [input, code, path] of cases) {
    const answer = await create(input)
    expect(answer.data.createCredential).toMatchObject({ credential: null, errors: [{ code, path: [path] }] })
    expect(answer.text).not.toContain(canary)
  }
})

describe('no answer repeats a secret, wherever it was put', () => {
  const head = 'mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { errors { code } } }'
  const documents: [string, string, object][] = [
    ['in a field of another type', head, { input: { ...sftp('x'), name: { password: canary } } }],
    ['in a field that does not exist', head, { input: { ...sftp('x'), password: canary } }],
    ['instead of the input', head, { input: canary }],
    ['in a list', head, { input: [[canary]] }],
    ['with a required field missing', head, { input: { name: 'x', secret: { password: canary } } }],
    ['as a literal of another type', `mutation { createCredential(input: "${canary}") { errors { code } } }`, {}],
    [
      'as a literal in an object',
      `mutation { createCredential(input: { name: 1, provider: "sftp", secret: { p: "${canary}" } }) { errors { code } } }`,
      {},
    ],
    [
      'as a literal field',
      `mutation { createCredential(input: { name: { p: "${canary}" }, provider: "sftp", secret: 1 }) { errors { code } } }`,
      {},
    ],
    ['as an enum', `query ($s: [RunState!]) { runs(filter: { states: $s }) { nodes { id } } }`, { s: [canary] }],
    ['as an enum literal', `{ runs(filter: { states: ["${canary}"] }) { nodes { id } } }`, {}],
    ['as a number', `query ($n: Int) { runs(first: $n) { nodes { id } } }`, { n: canary }],
    [
      'as a date',
      `mutation ($d: Date) { runPipeline(input: { pipeline: "a/b/c", date: $d }) { created } }`,
      { d: canary },
    ],
    ['as a moment', `query ($d: DateTime) { runs(filter: { createdFrom: $d }) { nodes { id } } }`, { d: canary }],
    ['in broken syntax', `mutation { createCredential(input: { secret: "${canary}" "${canary}" }) }`, {}],
    ['in an open string', `mutation { createCredential(input: { secret: "${canary} }) }`, {}],
    ['as a cursor', `query ($c: String) { runs(after: $c) { nodes { id } } }`, { c: canary }],
  ]
  test.each(documents)('%s', async (_name, document, variables) => {
    const answer = await plane.query(document, { token: a.token, variables })
    expect(answer.errors.length).toBeGreaterThan(0)
    expect(answer.errors[0]?.message).not.toBe('')
    expect(answer.text).not.toContain(canary)
  })
})

test('a stored secret stands in no answer, no log line and no row', async () => {
  await using _worker = smallWorker(plane.ports)
  await plane.query(`mutation ($input: OnboardTenantInput!) { onboardTenant(input: $input) { created } }`, {
    token: plane.platformToken,
    variables: {
      input: {
        tenantId: 'canary_tenant',
        name: 'C',
        companyName: 'C',
        adminEmail: 'c@c.example',
        plan: 'STARTER',
        sftp: { host: 'h', username: 'u', password: canary, hostKey: `SHA256:${'A'.repeat(43)}` },
      },
    },
  })
  const token = await plane.key('canary_tenant')
  const everything = `{
    viewer { actor tenant { configuration provisioned apiKeys { nodes { name } } users { nodes { email } } } }
    credentials { nodes { id name provider version createdBy } }
    pipelines { nodes { path yaml } }
    runs { nodes { parameters error { message } steps { outputs error { message } } events { nodes { data message } } logs { nodes { message } } } }
    auditLog(first: 100) { nodes { actor action target details } }
  }`
  for (const by of [token, a.token]) {
    const answer = await plane.query(everything, { token: by })
    expect(answer.errors).toEqual([])
    expect(answer.text).not.toContain(canary)
  }
  expect(plane.logged.join('\n')).not.toContain(canary)
  const tables = await rowsOf<{ name: string }>(
    plane.ports.db,
    sql`select table_name as name from information_schema.tables where table_schema = 'app' and table_type = 'BASE TABLE'`,
  )
  expect(tables.length).toBeGreaterThan(10)
  for (const { name } of tables) {
    const dump = await rowsOf(plane.ports.db, sql`select to_jsonb(t)::text as row from app.${sql.identifier(name)} t`)
    expect({ name, leak: JSON.stringify(dump).includes(canary) }).toEqual({ name, leak: false })
  }
})
