import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isDeepStrictEqual, parseArgs, promisify } from 'node:util'
import { z } from 'zod'
import { startPostgres } from '../../test/support/postgres.ts'
import type { ProcessLimits } from '../../workers/define.ts'
import { engineShare } from '../../workers/lake/open.ts'
import { result } from '../result.ts'
import { boundMemory } from './memory.ts'
import { startPlatform } from './platform.ts'
import { loadPostgres, peerSettings } from './postgres.ts'
import { type Counts, type Snapshot, snapshots, writeSnapshots } from './snapshots.ts'

const help = `Measures versioned loads of CSV files, initial and with 1 % and 10 % changed, beside the bare statements in DuckDB,
beside PostgreSQL, beside upserts row by row, and beside the same loads with eight rules and a profile.

  --rows <n>    rows of the first file (default 1000000; 10000000 with --memory)
  --rounds <n>  how often each side has its turn; the median of the ratios counts (default 3)
  --memory      proves instead that a load finishes within 1 GiB for the engine and 2 GiB for its process
  --help`

const { values } = parseArgs({
  options: {
    rows: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    memory: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const rows = Number(values.rows ?? (values.memory ? 10_000_000 : 1_000_000))
const rounds = Number(values.rounds)
const gib = 2 ** 30
// Every side gets the same: as many threads, and as much memory as the product gives its engine.
const limits: ProcessLimits = { memoryBytes: 4 * gib, threads: 2, diskBytes: 64 * gib }
const memoryMiB = Math.floor((limits.memoryBytes * engineShare) / 2 ** 20)
const upserts = Math.min(3000, rows)

// Eight rules, one of every kind that a table of orders has.
const rules = [
  { rule: 'required', columns: ['order_id'] },
  { rule: 'not_null', column: 'amount' },
  { rule: 'unique', columns: ['order_id'] },
  { rule: 'type', column: 'order_date', type: 'DATE' },
  { rule: 'range', column: 'amount', min: 0, max: 100_000 },
  { rule: 'range', column: 'qty', min: 0, max: 100 },
  { rule: 'format', column: 'order_id', pattern: 'ORD[0-9]{9}' },
  { rule: 'row_count', min: 1 },
]

const counts = z.object({ inserted: z.number(), updated: z.number(), deleted: z.number() })
const load = z.object({ seconds: z.number(), counts })
const bareAnswer = z.object({
  loads: z.object({ initial: load, 'delta-1': load, 'delta-10': load }),
  upsertsPerSecond: z.number(),
})
const quality = z.object({ overall: z.number(), rules: z.array(z.unknown()) })
type Loads = Record<Snapshot, { seconds: number; counts: Counts }>

if (values.help) console.log(help)
else {
  const folder = await mkdtemp(join(tmpdir(), 'bench-lake-'))
  try {
    await writeSnapshots(folder, rows)
    const isMet = values.memory ? await boundMemory(folder, rows) : await compare(folder)
    process.exitCode = isMet ? 0 : 1
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function compare(folder: string): Promise<boolean> {
  const label = `lake.${rows / 1e6}M`
  const server = await startPostgres(peerSettings(memoryMiB, limits.threads))
  if ('skipped' in server) throw new Error(`the bench needs a PostgreSQL server: ${server.skipped}`)
  const ratios = new Map<string, number[]>()
  const note = (name: string, ratio: number): void => void ratios.set(name, [...(ratios.get(name) ?? []), ratio])
  try {
    for (let round = 1; round <= rounds; round++) {
      const bare = await inFolder((work) => loadBare(folder, work))
      const both = await plainAndChecked(folder, round)
      const { loads: ours, checks } = both.plain
      const postgres = await loadPostgres(server.url, folder)
      for (const snapshot of snapshots) {
        const all = [ours, bare.loads, postgres, both.checked].map((side) => side[snapshot])
        if (!all.every((side) => isDeepStrictEqual({ ...side.counts }, { ...ours[snapshot].counts })))
          throw new Error(`the sides differ in ${snapshot}: ${JSON.stringify(all)}`)
        const [our, bound, peer, checked] = all.map(({ seconds }) => seconds) as [number, number, number, number] // four sides above
        note(`${snapshot}.of-bare`, our / bound)
        note(`${snapshot}.postgres-of-ours`, peer / our)
        note(`${snapshot}.quality-of-plain`, checked / our)
        const shown = [our, bound, peer, checked].map((seconds) => seconds.toFixed(2))
        console.log(
          `${label} round ${round} ${snapshot}: ours ${shown[0]} s, bare ${shown[1]} s, PostgreSQL ${shown[2]} s, with rules and profile ${shown[3]} s`,
        )
      }
      note('upserts', rows / ours.initial.seconds / bare.upsertsPerSecond)
      note('checks', (100 * checks) / ours.initial.seconds)
    }
  } finally {
    await server.stop()
  }
  const median = (name: string): number => {
    const sorted = (ratios.get(name) ?? []).sort((a, b) => a - b)
    return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN
  }
  const met = snapshots.flatMap((snapshot) => [
    result(`${label}.${snapshot}.of-bare`, median(`${snapshot}.of-bare`), 'x', { op: '<=', value: 1.5 }),
    result(`${label}.${snapshot}.postgres-of-ours`, median(`${snapshot}.postgres-of-ours`), 'x', {
      op: '>=',
      value: 3,
    }),
    result(`${label}.${snapshot}.quality-of-plain`, median(`${snapshot}.quality-of-plain`), 'x', {
      op: '<=',
      value: 1.2,
    }),
  ])
  met.push(result(`${label}.initial.of-upserts`, median('upserts'), 'x', { op: '>=', value: 100 }))
  met.push(result(`${label}.initial.checks-add`, median('checks'), '%', { op: '<=', value: 20 }))
  return met.every(Boolean)
}

async function loadBare(folder: string, work: string): Promise<z.output<typeof bareAnswer>> {
  const script = fileURLToPath(new URL('./bare.ts', import.meta.url))
  const job = JSON.stringify({ folder, work, memoryMiB, threads: limits.threads, upserts })
  const { stdout } = await promisify(execFile)(process.execPath, [script, job], { maxBuffer: 1 << 20 })
  return bareAnswer.parse(JSON.parse(stdout))
}

async function loadOurs(folder: string, work: string): Promise<{ loads: Loads; checks: number }> {
  const platform = await startPlatform(folder, work, { limits, files: snapshots })
  try {
    const initial = await platform.load('initial')
    const checks = await platform.run('quality.check', { table: 'orders', rules })
    if (checks.outputs['score'] !== 1) throw new Error(`the rows are sound, the checks say ${checks.outputs['score']}`)
    const loads = { initial, 'delta-1': await platform.load('delta-1'), 'delta-10': await platform.load('delta-10') }
    return { loads, checks: checks.seconds }
  } finally {
    await platform.close()
  }
}

// Each in a process and a lake of its own, and each first in every second round.
async function plainAndChecked(
  folder: string,
  round: number,
): Promise<{ plain: { loads: Loads; checks: number }; checked: Loads }> {
  const first = round % 2 === 0 ? await inFolder((work) => loadChecked(folder, work)) : undefined
  const plain = await inFolder((work) => loadOurs(folder, work))
  return { plain, checked: first ?? (await inFolder((work) => loadChecked(folder, work))) }
}

async function loadChecked(folder: string, work: string): Promise<Loads> {
  const platform = await startPlatform(folder, work, { limits, files: snapshots })
  const load = async (snapshot: Snapshot): Promise<Loads[Snapshot]> => {
    const { seconds, counts, outputs } = await platform.load(snapshot, { rules, profile: true })
    const { overall, rules: results } = quality.parse(outputs['quality'])
    // One more is whether each row could be loaded.
    if (overall !== 1 || results.length !== rules.length + 1)
      throw new Error(`the rows are sound, the load says ${overall} by ${results.length} rules`)
    return { seconds, counts }
  }
  try {
    return { initial: await load('initial'), 'delta-1': await load('delta-1'), 'delta-10': await load('delta-10') }
  } finally {
    await platform.close()
  }
}

async function inFolder<T>(use: (work: string) => Promise<T>): Promise<T> {
  const work = await mkdtemp(join(tmpdir(), 'bench-lake-side-'))
  try {
    await mkdir(join(work, 'spill'))
    return await use(work)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}
