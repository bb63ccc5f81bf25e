import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { withTenant } from '../../shared/db/db.ts'
import { claimSteps } from '../../shared/runs/ledger.ts'
import { openLake } from '../../workers/lake/open.ts'
import { type LakeOptions, removeCatalog } from '../../workers/lake/tenant-store.ts'
import type { ProcessPool } from '../../workers/process/pool.ts'
import { spawnTenantProcess } from '../../workers/process/spawn.ts'
import { answerRead } from '../../workers/reader/answer-read.ts'
import { runStep, type StepOptions } from '../../workers/run-step.ts'
import { checks, diagnose } from '../../standalone/doctor/diagnose.ts'
import { openHouse } from '../../standalone/doctor/house.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

const catalogUrl = process.env['TEST_LAKE_CATALOG'] ?? ''
const extensions = process.env['TEST_LAKE_EXTENSIONS']
const engine = process.env['NODE_OPTIONS']?.includes('engine.mjs') ? join(import.meta.dirname, 'child.ts') : undefined
const needle = 'needle-in-the-hay'

let plane: ControlPlane
let root: string
beforeAll(async () => {
  plane = await controlPlane()
  root = await mkdtemp(join(tmpdir(), 'whole-'))
})
afterAll(async () => {
  await plane[Symbol.asyncDispose]()
  await rm(root, { recursive: true, force: true })
})

// One process for each step, with the engine of this folder.
const pool: ProcessPool = {
  async run(binding, job, events) {
    const child = spawnTenantProcess(engine)
    try {
      await child.bind(binding)
      return await child.run(job, events)
    } finally {
      await child.close()
    }
  },
  read: () => Promise.reject(new Error('nothing reads here')),
  pids: () => new Map(),
  canSpawn: () => true,
  keepNoneWarm: () => undefined,
  close: async () => undefined,
}

// Works as a worker with these lakes until `what` has its answer.
async function worked<T>(lake: LakeOptions, what: Promise<T>): Promise<T> {
  const over = new AbortController()
  const options = {
    dataDir: root,
    lake,
    allowPrivateNetwork: false,
    leaseMs: 30_000,
    heartbeatMs: 500,
    stop: over.signal,
    tally: { heartbeatsFailed: 0 },
    endWith: (end: Parameters<StepOptions['endWith']>[0]) => end(undefined),
  }
  const working = (async () => {
    while (!over.signal.aborted) {
      const claims = await claimSteps(plane.ports.db, {
        worker: 'wrk_test',
        queues: queueTypes,
        tenants: null,
        limit: 4,
        leaseMs: 30_000,
      })
      for (const claim of claims) await runStep(plane.ports, pool, claim, options)
      await plane.ports.clock.sleep(50, over.signal)
    }
  })()
  try {
    return await what
  } finally {
    over.abort()
    await working
  }
}

const yaml = `pipeline_id: p
steps:
  - step_id: load
    ps_type: file.ingest
    source: { path: in.csv }
    destination: { table: orders, business_key: [id] }
`
async function load(t: { id: string; token: string }, lake: LakeOptions, rows: string): Promise<string> {
  const files = join(root, 'tenants', t.id, 'files')
  await mkdir(files, { recursive: true })
  await writeFile(join(files, 'in.csv'), `id,note\n${rows}\n`)
  const started = await plane.query(
    `mutation ($save: SavePipelineInput!) { savePipeline(input: $save) { errors { message } }
      runPipeline(input: { pipeline: "x/y/a" }) { run { id } errors { message } } }`,
    { token: t.token, variables: { save: { path: 'x/y/a', yaml } } },
  )
  const { id } = started.data.runPipeline.run
  const ended = async (): Promise<string> => {
    for (;;) {
      const { data } = await plane.query(`{ run(id: "${id}") { state error { message } } }`, t)
      if (!['QUEUED', 'RUNNING'].includes(data.run.state)) return `${data.run.state} ${data.run.error?.message ?? ''}`
      await plane.ports.clock.sleep(50)
    }
  }
  return (await worked(lake, ended())).trim()
}
const asPlatform = async (verb: string, tenantId: string): Promise<unknown> =>
  (
    await plane.query(`mutation { result: ${verb}(input: { tenantId: "${tenantId}" }) { errors { code message } } }`, {
      token: plane.platformToken,
    })
  ).data.result.errors
const tablesOf = (tenantId: string, lake: LakeOptions) =>
  answerRead(
    plane.ports,
    pool,
    { tenantId, operation: 'tables', table: '', arguments: {} },
    { worker: 'wrk_test', dataDir: root, lake, allowPrivateNetwork: false, leaseMs: 30_000 },
    AbortSignal.timeout(10_000),
  )
const keyOf = (id: string): Promise<string> =>
  withTenant(plane.ports.db, { tenantId: id, side: 'worker' }, (tx) => plane.ports.secrets.lakeKey(tx, id))

test('a tenant’s lake is encrypted from the first load, whatever its data key does, and no copy opens when the tenant is gone', async () => {
  const lake = { extensions }
  const [t, other] = [await plane.tenant(), await plane.tenant()]
  const file = join(root, 'tenants', t.id, 'lake.duckdb')
  expect(await load(t, lake, `1,${needle}`)).toBe('SUCCEEDED')
  expect(await asPlatform('rotateTenantKey', t.id)).toEqual([])
  expect(await load(t, lake, `1,${needle}\n2,${needle} too`)).toBe('SUCCEEDED')
  const copy = join(root, 'copy', 'lake.duckdb')
  await mkdir(dirname(copy))
  await copyFile(file, copy)
  for (const text of [needle, 'orders']) expect((await readFile(copy)).includes(text)).toBe(false)
  const key = await keyOf(t.id)
  const rowsWith = async (opener: string): Promise<unknown> => {
    const limits = { memoryBytes: 1 << 29, threads: 1, diskBytes: 2 ** 30 }
    const place = { file: copy, filesRoot: join(root, 'copy'), workRoot: join(root, 'copy', 'work'), limits }
    const opened = await openLake({ ...place, extensions, key: opener })
    try {
      using connection = await opened.connect(AbortSignal.timeout(10_000))
      return (await connection.rows('SELECT note FROM lake.main.orders ORDER BY id')).map(({ note }) => note)
    } finally {
      await opened.close()
    }
  }
  expect(await rowsWith(key)).toEqual([needle, `${needle} too`])
  await expect(rowsWith(await keyOf(other.id))).rejects.toMatchObject({ code: 'CONFLICT', retry: 'never' })
  expect(plane.logged.join()).not.toContain(key)
  expect(await worked(lake, asPlatform('offboardTenant', t.id))).toEqual([])
  await expect(keyOf(t.id)).rejects.toMatchObject({ code: 'SECRET_UNREADABLE' })
  expect(await tablesOf(t.id, lake)).toEqual([])
  await expect(readFile(file)).rejects.toMatchObject({ code: 'ENOENT' })
})

test('a tenant whose lake is plain has it encrypted by its first step on a worker that can', async () => {
  const t = await plane.tenant()
  const file = join(root, 'tenants', t.id, 'lake.duckdb')
  expect(await load(t, {}, `1,${needle}`)).toBe('SUCCEEDED')
  expect((await readFile(file)).includes('orders')).toBe(true)
  expect(await load(t, { extensions }, `1,${needle}\n2,b`)).toBe('SUCCEEDED')
  expect((await readFile(file)).includes('orders')).toBe(false)
  expect(await load(t, {}, `1,c`)).toMatch(/FAILED .*encrypted/)
})

test('a tenant that leaves a DuckLake leaves neither schema nor role in the catalog’s database', async () => {
  const lake = { extensions, catalogUrl }
  const t = await plane.tenant()
  const client = new pg.Client({ connectionString: catalogUrl })
  await client.connect()
  const left = async (): Promise<string[]> => {
    const { rows } = await client.query<{ name: string }>(
      `select rolname as name from pg_roles where rolname = $1 union all select nspname from pg_namespace where nspname = $1`,
      [`lake_${t.id}`],
    )
    return rows.map(({ name }) => name)
  }
  try {
    expect(await load(t, lake, `1,${needle}`)).toBe('SUCCEEDED')
    expect(await left()).toHaveLength(2)
    expect(await worked(lake, asPlatform('offboardTenant', t.id))).toEqual([])
    expect(await tablesOf(t.id, lake)).toEqual([])
    expect(await left()).toEqual([])
  } finally {
    await client.end()
    await removeCatalog(catalogUrl, t.id)
  }
})

test('the doctor opens an encrypted lake of each kind where there is the extension for it', async () => {
  const variables = { TRIBUTARY_DATA_DIR: root, LAKE_EXTENSIONS: extensions, LAKE_CATALOG_URL: catalogUrl }
  for (const [part, given] of [
    ['embedded', { ...variables, LAKE_CATALOG_URL: undefined }],
    ['worker', variables],
  ] as const) {
    const house = openHouse(part, given)
    try {
      const found = await diagnose(
        house,
        checks.filter(({ name }) => name === 'lake'),
      )
      expect(found.map(({ state }) => state)).toEqual(part === 'worker' ? ['ok', 'ok'] : ['ok'])
      expect(found.at(-1)?.says).toMatch(/^Duck(DB|Lake) v\S+ opens, writes and reads one, encrypted\.$/)
    } finally {
      await house.close()
    }
  }
})
