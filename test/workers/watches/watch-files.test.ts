import { mkdir, mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rowsOf } from '../../../shared/db/db.ts'
import { watchFiles } from '../../../workers/watches/watch-files.ts'
import { type ControlPlane, controlPlane, type Loose } from '../../support/control-plane.ts'
import { tamper } from '../../support/database.ts'
import { hostileSftp } from '../../support/hostile-sftp.ts'

let plane: ControlPlane
let dataDir: string
beforeAll(async () => {
  plane = await controlPlane()
  dataDir = await mkdtemp(join(tmpdir(), 'watch-files-'))
})
afterAll(async () => {
  await plane[Symbol.asyncDispose]()
  await rm(dataDir, { recursive: true, force: true })
})

type Tenant = { id: string; token: string }
const never = new AbortController().signal

async function watching(
  trigger: string,
  parameters = 'file: { type: string }, file_name: { type: string }',
): Promise<Tenant> {
  const tenant = await plane.tenant()
  await save(tenant, trigger, parameters)
  return tenant
}
async function save(
  tenant: Tenant,
  trigger: string,
  parameters = 'file: { type: string }, file_name: { type: string }',
): Promise<void> {
  const yaml = `pipeline_id: p
parameters: { ${parameters} }
triggers:
  - { on: file, ${trigger} }
steps:
  - { step_id: only, ps_type: file.delete, paths: ["{file}"] }
`
  const { data, errors } = await plane.query(
    'mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { errors { message } } }',
    { token: tenant.token, variables: { input: { path: 'x/y/z', yaml } } },
  )
  expect([errors, data.savePipeline.errors]).toEqual([[], []])
}
async function put(tenant: Tenant, name: string, content = 'x'): Promise<string> {
  const path = join(dataDir, 'tenants', tenant.id, 'files', name)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
  return path
}
/** Looks now, whatever the trigger's pace. */
async function look(tenant: Tenant): Promise<void> {
  await tamper(
    plane.ports.db,
    sql`update app.pipeline_trigger set next_look_at = now(), claimed_until = now() - interval '1 s' where tenant_id = ${tenant.id}`,
  )
  await watchFiles(plane.ports, { dataDir, allowPrivateNetwork: true, tenants: [tenant.id] }, never)
}
/** As if what has been seen so far had been seen a while ago. */
const settle = (tenant: Tenant): Promise<void> =>
  tamper(
    plane.ports.db,
    sql`update app.seen_file set first_seen_at = first_seen_at - interval '1 hour' where tenant_id = ${tenant.id}`,
  )
const runsOf = async (tenant: Tenant): Promise<Loose[]> =>
  rowsOf(
    plane.ports.db,
    sql`select parameters ->> 'file' as file, parameters ->> 'file_name' as name, trigger_kind as trigger from app.pipeline_run
        where tenant_id = ${tenant.id} order by run_id`,
  )
async function triggerOf(tenant: Tenant): Promise<Loose> {
  const { data, errors } = await plane.query(
    `{ pipeline(path: "x/y/z") { triggers { on settings failures lookedAt nextLookAt problem { code message }
       recentFiles { name state run { state } problem { code } } } } }`,
    tenant,
  )
  expect(errors).toEqual([])
  return data.pipeline.triggers[0]
}

test('a file counts when it has lain still over two looks, once', async () => {
  const a = await watching('path: "in/*.csv", settle: 30s')
  await put(a, 'in/a.csv')
  await put(a, 'in/b.txt')
  await look(a)
  await look(a)
  expect(await runsOf(a)).toEqual([])
  await settle(a)
  await look(a)
  await look(a)
  expect(await runsOf(a)).toEqual([{ file: 'in/a.csv', name: 'a.csv', trigger: 'file' }])
  const trigger = await triggerOf(a)
  expect(trigger.recentFiles).toEqual([{ name: 'a.csv', state: 'STARTED', run: { state: 'QUEUED' }, problem: null }])
  expect(trigger.problem).toBeNull()
})

test('at least two looks are needed where nothing has to settle', async () => {
  const a = await watching('path: "*.csv", settle: 1ms')
  await put(a, 'a.csv')
  await look(a)
  expect(await runsOf(a)).toEqual([])
  await look(a)
  expect(await runsOf(a)).toHaveLength(1)
})

test('a file that still grows, or goes, does not count', async () => {
  const a = await watching('path: "*.csv", settle: 30s')
  const path = await put(a, 'a.csv', 'x')
  await look(a)
  await settle(a)
  await writeFile(path, 'xx')
  await look(a)
  expect(await runsOf(a)).toEqual([])
  await settle(a)
  await rm(path)
  await look(a)
  expect(await runsOf(a)).toEqual([])
  expect((await triggerOf(a)).recentFiles).toEqual([])
})

test('a new file under an old name counts again, the old one put back does not', async () => {
  const a = await watching('path: "*.csv", settle: 30s')
  const path = await put(a, 'a.csv', 'first')
  const at = new Date('2026-01-01T00:00:00Z')
  await utimes(path, at, at)
  const settled = async (): Promise<number> => {
    await look(a)
    await settle(a)
    await look(a)
    return (await runsOf(a)).length
  }
  expect(await settled()).toBe(1)
  await rename(path, `${path}.old`)
  await put(a, 'a.csv', 'second')
  expect(await settled()).toBe(2)
  await rename(`${path}.old`, path)
  expect(await settled()).toBe(2)
})

test('each file counts once with two watchers at the same time', async () => {
  const a = await watching('path: "*.csv", settle: 1ms')
  for (let n = 0; n < 30; n++) await put(a, `${n}.csv`)
  await look(a)
  for (let round = 0; round < 3; round++) await Promise.all([look(a), look(a), look(a)])
  const files = (await runsOf(a)).map(({ file }) => file)
  expect(files).toHaveLength(30)
  expect(new Set(files).size).toBe(30)
})

test('a full queue keeps the file for the next look', async () => {
  const a = await watching('path: "*.csv", settle: 1ms')
  await tamper(plane.ports.db, sql`update app.tenant_limit set runs_per_month = 1 where tenant_id = ${a.id}`)
  for (const name of ['a.csv', 'b.csv']) await put(a, name)
  await look(a)
  await look(a)
  expect(await runsOf(a)).toHaveLength(1)
  expect(await triggerOf(a)).toMatchObject({ problem: { code: 'QUOTA_EXCEEDED' } })
  await tamper(plane.ports.db, sql`update app.tenant_limit set runs_per_month = 9 where tenant_id = ${a.id}`)
  await look(a)
  expect(await runsOf(a)).toHaveLength(2)
  expect(await triggerOf(a)).toMatchObject({ problem: null })
})

test('what the pipeline refuses is said with the file, and the next file has its turn', async () => {
  const a = await watching('path: "*.csv", settle: 1ms', 'file: { type: string, pattern: "good.*" }')
  for (const name of ['bad.csv', 'good.csv']) await put(a, name)
  await look(a)
  await look(a)
  expect(await runsOf(a)).toMatchObject([{ file: 'good.csv' }])
  expect((await triggerOf(a)).recentFiles).toContainEqual({
    name: 'bad.csv',
    state: 'REFUSED',
    run: null,
    problem: { code: 'PARAMETER_INVALID' },
  })
})

test('a hostile name is left out and told', async () => {
  const a = await watching('path: "*.csv", settle: 1ms')
  for (const name of ['a\nb.csv', 'fine.csv']) await put(a, name)
  await look(a)
  await look(a)
  expect(await runsOf(a)).toMatchObject([{ file: 'fine.csv' }])
  expect(await triggerOf(a)).toMatchObject({ problem: { code: 'PATH_INVALID' } })
})

test('a trigger that left the file looks no more, and back in it remembers what it saw', async () => {
  const a = await watching('path: "*.csv", settle: 1ms')
  await put(a, 'a.csv')
  await look(a)
  await look(a)
  await save(a, 'path: "other/*.csv"')
  await put(a, 'b.csv')
  await look(a)
  await look(a)
  expect(await runsOf(a)).toHaveLength(1)
  await save(a, 'path: "*.csv", settle: 1ms')
  await look(a)
  await look(a)
  expect((await runsOf(a)).map(({ file }) => file)).toEqual(['a.csv', 'b.csv'])
})

test('nothing is looked at for a suspended tenant', async () => {
  const a = await watching('path: "*.csv", settle: 1ms')
  await tamper(plane.ports.db, sql`update app.tenant set status = 'suspended' where id = ${a.id}`)
  await put(a, 'a.csv')
  await look(a)
  const [row] = await rowsOf<{ looked: boolean }>(
    plane.ports.db,
    sql`select looked_at is not null as looked from app.pipeline_trigger where tenant_id = ${a.id}`,
  )
  expect(row?.looked).toBe(false)
})

describe('on a server', () => {
  async function withServer(): Promise<{ a: Tenant; sftp: Awaited<ReturnType<typeof hostileSftp>> }> {
    const sftp = await hostileSftp()
    const a = await watching('path: "out/*.csv", credential: partner, settle: 1ms')
    const { data } = await plane.query(
      'mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { errors { message } } }',
      { token: a.token, variables: { input: { name: 'partner', provider: 'sftp', secret: sftp.secret } } },
    )
    expect(data.createCredential.errors).toEqual([])
    await mkdir(join(sftp.root, 'out'))
    return { a, sftp }
  }

  test('a file counts, and opening the credential is in the audit log once an hour', async () => {
    const { a, sftp } = await withServer()
    await using _sftp = sftp
    await writeFile(join(sftp.root, 'out/a.csv'), 'x')
    for (let n = 0; n < 3; n++) await look(a)
    expect(await runsOf(a)).toEqual([{ file: 'out/a.csv', name: 'a.csv', trigger: 'file' }])
    const [row] = await rowsOf<{ n: number }>(
      plane.ports.db,
      sql`select count(*)::int as n from app.audit_event where tenant_id = ${a.id} and action = 'credential.opened'`,
    )
    expect(row?.n).toBe(1)
  })

  test('that is away is asked more and more rarely, and its trigger says why', async () => {
    const { a, sftp } = await withServer()
    await sftp[Symbol.asyncDispose]()
    const waits: number[] = []
    for (let n = 0; n < 3; n++) {
      await look(a)
      const trigger = await triggerOf(a)
      expect(trigger).toMatchObject({ failures: n + 1, problem: { code: 'CONNECTION_FAILED' } })
      waits.push(Date.parse(trigger.nextLookAt) - Date.parse(trigger.lookedAt))
    }
    expect(waits).toEqual([60_000, 120_000, 240_000])
  })

  test('without its credential the trigger says so', async () => {
    const a = await watching('path: "out/*.csv", credential: partner')
    await look(a)
    expect(await triggerOf(a)).toMatchObject({ failures: 1, problem: { code: 'CREDENTIAL_MISSING' } })
  })
})
