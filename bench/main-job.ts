import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startStandalone, type Standalone } from '../standalone/start.ts'
import { opensshMissing, startOpenSsh, type OpenSsh } from '../test/support/openssh.ts'
import { postgresLogin, startPostgres } from '../test/support/postgres.ts'
import { onboard, type SeenRun } from '../test/support/world.ts'
import { makeOrders, ordersQuery } from './orders.ts'
import { result } from './result.ts'

// The main job, PostgreSQL table → versioned load → CSV → ZIP → SFTP to OpenSSH, through the platform with its API,
// ledger, tenant process, key checks and read-backs, beside a bare script of the same stages with the same libraries.
// In turns, so that both meet the same neighbours; absolute seconds mean little on a shared machine, the ratio does.
const sizes = (process.argv[2] ?? '1000000,5000000').split(',').map(Number)
const rounds = Number(process.argv[3] ?? 3)
const ratioGoal = 1.5
const memoryGoalBytes = 2 * 2 ** 30

const pipeline = `
pipeline_id: bench
steps:
  - step_id: ingest
    ps_type: db.ingest
    credential: source
    source: { query: "${ordersQuery}" }
    destination: { table: "orders_{run_id}", mode: versioned, business_key: [order_id] }
  - step_id: export
    ps_type: file.export
    source: { table: "orders_{run_id}" }
    destination: { path: "out/{run_id}/orders.csv", format: csv }
  - step_id: zip
    ps_type: file.compress
    source: { paths: ["out/{run_id}/orders.csv"] }
    destination: { path: "out/{run_id}.zip", delete_source: true }
  - step_id: upload
    ps_type: transfer.sftp_upload
    credential: target
    source: { paths: ["{steps.zip.path}"] }
    destination: { directory: "REMOTE" }
`

const postgres = await startPostgres()
if ('skipped' in postgres) throw new Error(`the bench needs a PostgreSQL server: ${postgres.skipped}`)
if (opensshMissing) throw new Error(`the bench needs OpenSSH: ${opensshMissing}`)
const far = await startOpenSsh()
let isMet = true
try {
  for (const rows of sizes) isMet = (await compare(rows, postgres, far)) && isMet
} finally {
  await far[Symbol.asyncDispose]()
  await postgres.stop()
}
process.exitCode = isMet ? 0 : 1

async function compare(rows: number, source: { url: string; port: number }, target: OpenSsh): Promise<boolean> {
  const label = `main-job.${rows / 1e6}M`
  await makeOrders(source.url, rows)
  const ratios: number[] = []
  let peak = 0
  let last: { ours: Record<string, number>; bare: Record<string, number> } | undefined
  for (let round = 0; round < rounds; round++) {
    const bare = await runBare(rows, source.url, target)
    const ours = await runPlatform(rows, source.port, target)
    peak = Math.max(peak, ours.peakBytes)
    ratios.push(ours.total / sum(bare))
    last = { ours: ours.seconds, bare }
    console.log(`${label} round ${round + 1}: platform ${ours.total.toFixed(1)} s, bare ${sum(bare).toFixed(1)} s`)
  }
  for (const side of ['ours', 'bare'] as const) {
    const stages = last?.[side] ?? {}
    const total = sum(stages)
    for (const [stage, spent] of Object.entries(stages)) {
      result(
        `${label}.${side === 'ours' ? 'platform' : 'bare'}.${stage}`,
        spent,
        `s share ${Math.round((100 * spent) / total)} %`,
      )
    }
  }
  const median = ratios.sort((a, b) => a - b)[Math.floor((ratios.length - 1) / 2)] ?? Number.NaN
  const isFast = result(`${label}.ratio`, median, 'x', { op: '<=', value: ratioGoal })
  const isSmall = result(`${label}.peak-memory`, peak / 2 ** 20, 'MiB', { op: '<=', value: memoryGoalBytes / 2 ** 20 })
  return isFast && isSmall
}

async function runBare(rows: number, url: string, target: OpenSsh): Promise<Record<string, number>> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-bare-'))
  const { host, port, username, privateKey } = target.secret
  const file = join(folder, 'job.json')
  await writeFile(
    file,
    JSON.stringify({ url, folder, sftp: { host, port, username, privateKey }, remote: join(target.root, 'bare.zip') }),
    { mode: 0o600 },
  )
  try {
    const script = fileURLToPath(new URL('./main-job-bare.ts', import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, [script, file], { maxBuffer: 1 << 20 })
    const said = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as {
      seconds: Record<string, number>
      rows: number
    }
    if (said.rows !== rows) throw new Error(`the bare script loaded ${said.rows} rows`)
    return said.seconds
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function runPlatform(
  rows: number,
  port: number,
  target: OpenSsh,
): Promise<{ total: number; seconds: Record<string, number>; peakBytes: number }> {
  const dataDir = await mkdtemp(join(tmpdir(), 'bench-platform-'))
  const house = await startStandalone({
    dataDir,
    host: '127.0.0.1',
    port: 0,
    logLevel: 'error',
    development: false,
    allowPrivateNetwork: true,
  })
  try {
    const tenant = await onboard(house, 'bench')
    await tenant.credential('source', 'postgres', { host: '127.0.0.1', port, ...postgresLogin })
    await tenant.credential('target', 'sftp', target.secret)
    await tenant.save('bench/main/job', pipeline.replace('REMOTE', target.root))
    const watched = watchPeak(house, 'bench')
    const run = await tenant.run('bench/main/job')
    const peakBytes = await watched.stop()
    if (run.state !== 'SUCCEEDED') throw new Error(`${run.error?.stepKey}: ${run.error?.code}: ${run.error?.message}`)
    if (outputOf(run, 'ingest', 'inserted') !== rows)
      throw new Error(`the platform loaded ${outputOf(run, 'ingest', 'inserted')} rows`)
    const times = (await tenant.client.request(
      'query ($id: ID!) { run(id: $id) { createdAt finishedAt steps { key startedAt finishedAt } } }',
      { id: run.id },
    )) as {
      run: { createdAt: string; finishedAt: string; steps: { key: string; startedAt: string; finishedAt: string }[] }
    }
    return {
      // From the request to the end of the run: dispatch, events and all that lies between the steps count.
      total: between(times.run.createdAt, times.run.finishedAt),
      seconds: Object.fromEntries(times.run.steps.map((step) => [step.key, between(step.startedAt, step.finishedAt)])),
      peakBytes,
    }
  } finally {
    await house.stop(0)
    await rm(dataDir, { recursive: true, force: true })
  }
}

// The kernel keeps the peak; the process is gone when its tenant has been idle, so it is read while it lives.
function watchPeak(house: Standalone, tenantId: string): { stop(): Promise<number> } {
  let peak = 0
  const read = async (): Promise<void> => {
    const pid = house.worker.pool.pids().get(tenantId)
    if (pid === undefined) return
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    peak = Math.max(peak, Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024)
  }
  const timer = setInterval(() => void read(), 250)
  return {
    async stop() {
      clearInterval(timer)
      await read()
      return peak
    },
  }
}

function outputOf(run: SeenRun, step: string, name: string): unknown {
  return run.steps.find(({ key }) => key === step)?.outputs[name]
}

function between(from: string, to: string): number {
  return (Date.parse(to) - Date.parse(from)) / 1000
}

function sum(stages: Record<string, number>): number {
  return Object.values(stages).reduce((a, b) => a + b, 0)
}
