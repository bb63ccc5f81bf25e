import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sql } from 'drizzle-orm'
import { credential } from '../../schema/tables/index.ts'
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
  const again = (await create({ ...sftp('partner'), secret: { host: 'other' } })).data.createCredential
  expect(again).toMatchObject({ credential: null, errors: [{ code: 'ALREADY_EXISTS', path: ['name'] }] })
  const opened = await withTenant(plane.ports.db, { tenantId: a.id, side: 'worker' }, async (tx) => {
    const [row] = await tx.select().from(credential)
    const owner = { tenantId: a.id, credentialId: row?.id ?? '', version: 1 }
    return plane.ports.secrets.open(tx, owner, row?.sealed)
  })
  expect(opened).toEqual({ host: 'h', username: 'u', password: canary })
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
