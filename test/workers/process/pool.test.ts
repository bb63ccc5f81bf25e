import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DataRow } from '../../../shared/datasets/reader.ts'
import type { StepResult } from '../../../workers/define.ts'
import type { Binding, Job } from '../../../workers/process/messages.ts'
import { type ProcessPool, processPool } from '../../../workers/process/pool.ts'

let folder = ''
let pool: ProcessPool
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pool-'))
  pool = processPool({ idleMs: 60_000, killAfterMs: 300 })
})
afterAll(async () => {
  await pool.close()
  await rm(folder, { recursive: true, force: true })
})

const binding = (tenantId: string): Binding => ({
  tenant: { id: tenantId, companyName: tenantId, adminEmail: 'admin@example.com' },
  store: { file: join(folder, tenantId, 'lake.duckdb') },
  filesRoot: join(folder, tenantId, 'files'),
  workRoot: join(folder, tenantId, 'work'),
  limits: { memoryBytes: 512 * 2 ** 20, threads: 1, diskBytes: 2 ** 30 },
  allowPrivateNetwork: true,
})

let fence = 0n
const job = (query: string): Job => ({
  id: `job ${++fence}`,
  psType: 'sql.transform',
  run: { id: `run_${fence}`, pipelineId: 'test', trigger: 'manual', actor: 'key:test' },
  step: { key: 'step', attempt: 1, cycle: 0, fence },
  settings: { query, destination: { table: 't', mode: 'replace' } },
  values: {},
  secret: null,
})
const quiet = { progress: () => undefined, log: () => undefined }
const run = (tenantId: string, query: string, signal = new AbortController().signal, on = pool): Promise<StepResult> =>
  on.run(binding(tenantId), job(query), quiet, signal)

const read = (tenantId: string, signal = AbortSignal.timeout(10_000)): Promise<DataRow[]> =>
  pool.read(
    binding(tenantId),
    { tenantId, operation: 'rows', table: 't', arguments: { limit: 10, after: null } },
    signal,
  )

const slow = 'SELECT count(*) AS n FROM range(10000000) a, range(10000000) b WHERE a.range % 7 = b.range % 11'
// One call of one function: the engine looks for an interrupt only between calls.
const deaf = "SELECT levenshtein(repeat('a', 150000), repeat('b', 150000)) AS n"
const linux = existsSync('/proc/self/limits')

/** Waits until a process has computed for half a second: what it was given has begun. */
async function isBusy(pid: number): Promise<void> {
  const ticks = (): number => {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')
    return Number(fields[13]) + Number(fields[14])
  }
  const before = ticks()
  await expect.poll(() => ticks() - before, { interval: 20, timeout: 20_000 }).toBeGreaterThan(50)
}

test('two tenants never share a process, and one tenant keeps its own', async () => {
  await Promise.all([run('a', 'SELECT 1 AS n'), run('b', 'SELECT 1 AS n')])
  const first = pool.pids()
  expect(first.get('a')).not.toBe(first.get('b'))
  await run('a', 'SELECT 2 AS n')
  expect(pool.pids().get('a')).toBe(first.get('a'))
})

test.skipIf(!linux)(
  'the operating system bounds a process before it is a tenant, and it has no environment of ours',
  async () => {
    await run('a', 'SELECT 1 AS n')
    const pid = pool.pids().get('a')
    const limits = readFileSync(`/proc/${pid}/limits`, 'utf8')
    expect(limits).toMatch(new RegExp(`Max data size +${512 * 2 ** 20 + 1_200_000_000} `))
    expect(limits).toMatch(new RegExp(`Max file size +${2 ** 30 + 2 ** 26} `))
    expect(limits).toMatch(/Max core file size +0 /)
    const names = readFileSync(`/proc/${pid}/environ`, 'utf8')
      .split('\0')
      .map((line) => line.split('=')[0])
    expect(names.filter((name) => name !== '' && !name?.startsWith('NODE_CHANNEL'))).toEqual([
      'PATH',
      'TZ',
      'DUCKDB_JE_MALLOC_CONF',
    ])
  },
)

test.skipIf(!linux)(
  'a query that asks for more memory than there is fails alone, and the next query finds a fresh process',
  async () => {
    await run('bomb', 'SELECT 1 AS n')
    const pid = pool.pids().get('bomb')
    await expect(run('bomb', "SELECT length(repeat('x', 4000000000)) AS n")).rejects.toMatchObject({
      code: 'MEMORY_EXCEEDED',
    })
    await run('bomb', 'SELECT 1 AS n')
    expect(pool.pids().get('bomb')).not.toBe(pid)
  },
)

test('a process that is killed ends its step with that reason, and the next step gets a new one', async () => {
  await run('killed', 'SELECT 1 AS n')
  const pid = pool.pids().get('killed') ?? 0
  const work = run('killed', slow)
  process.kill(pid, 'SIGKILL')
  await expect(work).rejects.toMatchObject({ code: 'PROCESS_DIED', retry: 'later', context: { collateral: false } })
  await run('killed', 'SELECT 1 AS n')
  expect(pool.pids().get('killed')).not.toBe(pid)
})

test.skipIf(!linux)(
  'a step that does not obey is killed, and a neighbour in the same process learns that it was not meant',
  async () => {
    await run('crowd', 'SELECT 1 AS n')
    const abort = new AbortController()
    const stubborn = run('crowd', deaf, abort.signal).catch((error: unknown) => error)
    // Alone, so that it is this one that computes and hears nothing.
    await isBusy(pool.pids().get('crowd') ?? 0)
    const neighbour = run('crowd', slow).catch((error: unknown) => error)
    await isBusy(pool.pids().get('crowd') ?? 0)
    abort.abort()
    expect(await stubborn).toMatchObject({ code: 'PROCESS_DIED', context: { collateral: false } })
    expect(await neighbour).toMatchObject({ code: 'PROCESS_DIED', context: { collateral: true } })
  },
)

test('an abort that is obeyed leaves the process alone', async () => {
  await run('calm', 'SELECT 1 AS n')
  const pid = pool.pids().get('calm')
  const abort = new AbortController()
  const work = run('calm', slow, abort.signal)
  abort.abort()
  await expect(work).rejects.toMatchObject({ code: 'CANCELLED' })
  await run('calm', 'SELECT 1 AS n')
  expect(pool.pids().get('calm')).toBe(pid)
})

test('a read runs beside a step, and one that is stopped leaves the step and the process alone', async () => {
  await run('read', 'SELECT 7 AS n')
  const pid = pool.pids().get('read')
  const abort = new AbortController()
  const step = run('read', slow, abort.signal)
  expect(await read('read')).toMatchObject([{ values: { n: 7 } }])
  const stopped = new AbortController()
  const other = read('read', stopped.signal)
  stopped.abort()
  await expect(other).rejects.toMatchObject({ code: 'CANCELLED' })
  expect(await read('read')).toHaveLength(1)
  abort.abort()
  await expect(step).rejects.toMatchObject({ code: 'CANCELLED' })
  expect(pool.pids().get('read')).toBe(pid)
})

test('a read whose process is killed can be asked again, and finds a new one', async () => {
  await run('reread', 'SELECT 7 AS n')
  const pid = pool.pids().get('reread') ?? 0
  // Halted, it has the read and cannot answer it.
  process.kill(pid, 'SIGSTOP')
  const outcome = read('reread').catch((error: unknown) => error)
  process.kill(pid, 'SIGKILL')
  expect(await outcome).toMatchObject({ code: 'UNAVAILABLE', retry: 'later' })
  expect(await read('reread')).toHaveLength(1)
  expect(pool.pids().get('reread')).not.toBe(pid)
})

test('a process without work ends, and the next step finds the tables it left', async () => {
  const own = processPool({ idleMs: 50, killAfterMs: 300 })
  try {
    await run('idle', 'SELECT 42 AS n', undefined, own)
    await expect.poll(() => own.pids().size, { interval: 20 }).toBe(0)
    await run('idle', 'SELECT n FROM t', undefined, own)
  } finally {
    await own.close()
  }
})

test('a child ends with its parent, whatever it is doing', async () => {
  const own = processPool({ idleMs: 60_000, killAfterMs: 300 })
  const work = run('orphan', deaf, undefined, own).catch((error: unknown) => error)
  await expect.poll(() => own.pids().get('orphan')).toBeDefined()
  const pid = own.pids().get('orphan') ?? 0
  await own.close()
  expect(await work).toMatchObject({ code: 'PROCESS_DIED' })
  expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})

test('a tenant whose tables another process has waits until they are free, or until its step is given up', async () => {
  const other = processPool({ idleMs: 60_000, killAfterMs: 300 })
  try {
    await run('shared', 'SELECT 1 AS n', new AbortController().signal, other)
    const abort = new AbortController()
    const given = run('shared', 'SELECT 2 AS n', abort.signal)
    abort.abort()
    await expect(given).rejects.toMatchObject({ code: 'CANCELLED' })
    const waiting = run('shared', 'SELECT 3 AS n')
    other.keepNoneWarm()
    expect(await waiting).toMatchObject({ outputs: { rows: 1 } })
    await expect.poll(() => other.pids().size).toBe(0)
  } finally {
    await other.close()
  }
})

test('a pool says whether a tenant could get a process now', async () => {
  const other = processPool()
  await expect.poll(() => other.canSpawn(), { timeout: 20_000 }).toBe(true)
  await other.close()
  expect(other.canSpawn()).toBe(false)
})
