import { existsSync } from 'node:fs'
import { readdir, readFile, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { graphqlClient } from '../../standalone/client.ts'
import { fakeBigQuery } from '../fakes/bigquery/server.ts'
import { hostileSftp } from '../support/hostile-sftp.ts'
import { sweepExports } from '../../workers/sweep-exports.ts'
import { onboard, type TestTenant, world } from '../support/world.ts'

// oxlint-disable-next-line typescript/no-explicit-any -- answers of the documents below
const check = async (t: TestTenant, name: string): Promise<any> =>
  (
    await t.client.request(
      'mutation ($input: TestCredentialInput!) { testCredential(input: $input) { ok hostKey problem { code message hint } errors { code } } }',
      { input: { name } },
    )
  )['testCredential']

test('a credential is tried out before a pipeline needs it, and shows the key to pin', async () => {
  await using w = await world()
  await using far = await hostileSftp()
  await using google = await fakeBigQuery()
  const t = await w.tenant('guru_232342')
  const { hostKey, ...unpinned } = far.secret

  await t.credential('partner', 'sftp', unpinned)
  const asked = await check(t, 'partner')
  expect(asked).toMatchObject({ ok: false, hostKey, problem: { code: 'HOST_KEY_MISSING' }, errors: [] })

  await t.client.request(
    'mutation ($input: UpdateCredentialInput!) { updateCredential(input: $input) { errors { code } } }',
    { input: { name: 'partner', secret: { ...unpinned, hostKey: asked.hostKey } } },
  )
  expect(await check(t, 'partner')).toEqual({ ok: true, hostKey: null, problem: null, errors: [] })
  expect(await far.names()).toEqual([])

  await t.credential('wrong', 'sftp', { ...far.secret, password: 'not-the-password' })
  const wrong = await check(t, 'wrong')
  expect(wrong).toMatchObject({ ok: false, problem: { code: 'CREDENTIAL_REJECTED' } })
  expect(JSON.stringify(wrong)).not.toContain('not-the-password')

  await t.credential('nobody', 'postgres', { host: '127.0.0.1', port: 1, database: 'd', user: 'u', password: 'p' })
  expect(await check(t, 'nobody')).toMatchObject({ ok: false, problem: { code: 'CONNECTION_FAILED' } })

  // The same by a worker, before anything uses it.
  const queue = async (name: string, secret: object) => {
    await t.client.request(
      'mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { errors { code } } }',
      { input: { name, provider: 'sftp', mode: 'QUEUED', secret } },
    )
    const status = async () =>
      (
        await t.client.request('query ($name: String!) { credential(name: $name) { status problem { code } } }', {
          name,
        })
      )['credential']
    await expect.poll(status, { timeout: 20_000 }).not.toMatchObject({ status: 'PENDING' })
    return status()
  }
  expect(await queue('later', far.secret)).toEqual({ status: 'ACTIVE', problem: null })
  expect(await queue('never', { ...far.secret, password: 'not-the-password' })).toEqual({
    status: 'FAILED',
    problem: { code: 'CREDENTIAL_REJECTED' },
  })

  google.result({ fields: [{ name: 'one', type: 'INTEGER' }], rows: [['1']] })
  await t.credential('billing', 'gcp', google.secret)
  expect(await check(t, 'billing')).toMatchObject({ ok: true, problem: null })
})

test('a tenant that asks for its tables gets them delivered, and they are kept for 30 days', async () => {
  await using w = await world()
  await using far = await hostileSftp()
  const t = await onboard(w.house, 'asking_1', far)
  await t.put('in/a.csv', 'id,n\n1,one\n2,two\n')
  const load = (table: string, mode: string): string =>
    `pipeline_id: p\nsteps:\n  - { step_id: load, ps_type: file.ingest, source: { path: in/a.csv }, destination: { table: ${table}, ${mode} } }\n`
  await t.save('x/y/kept', load('kept', 'business_key: [id]'))
  await t.save('x/y/plain', load('plain', 'mode: replace'))
  for (const path of ['x/y/kept', 'x/y/plain']) expect((await t.run(path)).state).toBe('SUCCEEDED')

  const platform = graphqlClient(w.house.url, w.house.platformKey)
  const { offboardTenant } = await platform.request(
    'mutation ($input: OffboardTenantInput!) { offboardTenant(input: $input) { tenant { status } exported { tables rows isDelivered } errors { code message } } }',
    { input: { tenantId: 'asking_1', export: true } },
  )
  expect(offboardTenant).toEqual({
    tenant: { status: 'OFFBOARDED' },
    exported: { tables: 2, rows: 4, isDelivered: true },
    errors: [],
  })
  const names = ['kept.parquet', 'manifest.json', 'plain.parquet']
  expect(await far.names()).toEqual(names)
  const root = join(w.house.dataDir, 'tenants', 'asking_1')
  expect(await readdir(root)).toEqual(['export'])
  expect((await readdir(join(root, 'export'))).sort()).toEqual(names)
  const manifest = JSON.parse(await readFile(join(root, 'export', 'manifest.json'), 'utf8'))
  expect(manifest.tables).toMatchObject([
    { table: 'kept', kind: 'versioned', rows: 2 },
    { table: 'plain', kind: 'plain', rows: 2 },
  ])
  expect((await far.content('kept.parquet')).length).toBe(manifest.tables[0].bytes)

  const now = new Date()
  expect(await sweepExports(w.house.dataDir, now)).toBe(0)
  const old = new Date(now.getTime() - 31 * 86_400_000)
  await utimes(join(root, 'export'), old, old)
  expect(await sweepExports(w.house.dataDir, now)).toBe(1)
  expect(existsSync(root)).toBe(false)
})

test('a tenant that leaves takes its data along, and its neighbour notices nothing', async () => {
  await using w = await world()
  const leaving = await w.tenant('leaving_1')
  const staying = await w.tenant('staying_1')
  const yaml =
    'pipeline_id: p\nsteps:\n  - { step_id: load, ps_type: file.ingest, source: { path: in/a.csv }, destination: { table: t, mode: replace } }\n'
  for (const t of [leaving, staying]) {
    await t.put('in/a.csv', 'a\n1\n')
    await t.save('x/y/load', yaml)
    expect(await t.run('x/y/load')).toMatchObject({ state: 'SUCCEEDED', error: null })
  }
  // A tenant cannot remove its lake by the platform's own processor.
  await leaving.save(
    'x/y/drop',
    'pipeline_id: p\nsteps:\n  - { step_id: drop, ps_type: tenant.dismantle, retry: { attempts: 1 } }\n',
  )
  expect((await leaving.run('x/y/drop')).error).toMatchObject({ code: 'CONFIG_INVALID' })
  expect(await leaving.rows('SELECT a FROM t')).toEqual([{ a: 1 }])
  const { tenant } = (await leaving.client.request('{ tenant { usage { quota used } } }')) as {
    tenant: { usage: { quota: string; used: number }[] }
  }
  const used = new Map(tenant.usage.map(({ quota, used }) => [quota, used]))
  expect(used.get('ROWS_PER_MONTH')).toBe(1)
  expect(used.get('STORAGE_BYTES')).toBeGreaterThan(4096)

  const platform = graphqlClient(w.house.url, w.house.platformKey)
  const { offboardTenant } = await platform.request(
    'mutation ($input: OffboardTenantInput!) { offboardTenant(input: $input) { tenant { status } errors { code message } } }',
    { input: { tenantId: 'leaving_1' } },
  )
  expect(offboardTenant).toEqual({ tenant: { status: 'OFFBOARDED' }, errors: [] })
  const root = join(w.house.dataDir, 'tenants', 'leaving_1')
  expect(existsSync(root)).toBe(false)
  await expect(leaving.client.request('{ viewer { keyId } }')).rejects.toThrow('UNAUTHENTICATED')
  expect(await staying.rows('SELECT a FROM t')).toEqual([{ a: 1 }])
})
