import { parseArgs } from 'node:util'
import { migrationsFolder } from '../../standalone/ports.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { migratePg, openPg } from '../../workers/db/pg.ts'
import { result } from '../result.ts'
import { crew, now } from './crew.ts'
import { measureEmbedded } from './embedded.ts'
import { median, quantile } from './quantile.ts'
import { clearQueues, openQueue, type Queue, type QueueName, queueNames, stepsPerRun } from './queues.ts'

const help = `Measures the run ledger beside pg-boss and graphile-worker, on PostgreSQL with fsync and on embedded PostgreSQL.

  --units <n>    steps and jobs per round and queue (default 3000)
  --rounds <n>   rounds; the medians are told (default 3)
  --latency <n>  runs and jobs that are timed one by one (default 200)
  --only <pg|embedded>
  --help`

const { values } = parseArgs({
  options: {
    units: { type: 'string', default: '3000' },
    rounds: { type: 'string', default: '3' },
    latency: { type: 'string', default: '200' },
    only: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
const load = { units: Number(values.units), rounds: Number(values.rounds), latency: Number(values.latency) }
if (values.help) console.log(help)
else {
  let isMet = true
  if (values.only !== 'embedded') isMet = await measurePostgres()
  if (values.only !== 'pg') isMet = (await measureEmbedded(load)) && isMet
  process.exitCode = isMet ? 0 : 1
}

async function measurePostgres(): Promise<boolean> {
  const postgres = await startPostgres(['fsync=on', 'synchronous_commit=on'])
  if ('skipped' in postgres) throw new Error(`the bench needs a PostgreSQL server: ${postgres.skipped}`)
  try {
    await migratePg(postgres.url, migrationsFolder)
    const queues = new Map<QueueName, Queue>()
    for (const name of queueNames) {
      const queue = openQueue(name, postgres.url)
      await queue.prepare()
      queues.set(name, queue)
    }
    const isFast = await throughput(postgres.url, queues)
    const isPrompt = await latency(postgres.url, queues)
    for (const queue of queues.values()) await queue.close()
    return isFast && isPrompt
  } finally {
    await postgres.stop()
  }
}

// In turns, so that all meet the same neighbours: absolute figures mean little on a shared machine, the ratio does.
async function throughput(url: string, queues: ReadonlyMap<QueueName, Queue>): Promise<boolean> {
  const { db, close } = openPg(url)
  let isMet = true
  const filled = new Map(queueNames.map((name) => [name, [] as number[]]))
  for (const { slots, label } of [
    { slots: 1, label: 'one-by-one' },
    { slots: 8, label: 'eight-at-once' },
  ]) {
    const rates = new Map(queueNames.map((name) => [name, [] as number[]]))
    for (let round = 0; round < load.rounds; round++) {
      for (const [name, queue] of queues) {
        const units = Math.ceil(load.units / stepsPerRun) * stepsPerRun
        const started = now()
        await queue.fill(units)
        filled.get(name)?.push(now() - started)
        await using workers = await crew(name, url, { processes: 4, slots, mode: 'sum' })
        rates.get(name)?.push(units / (await workers.drain(units)))
        if (name === 'ledger') await clearQueues(db)
      }
    }
    const medians = queueNames.map((name) => median(rates.get(name) ?? []))
    const [ours = 0, ...others] = medians
    for (const [index, name] of queueNames.entries())
      result(`dispatch.pg.${label}.${name}`, medians[index] ?? 0, 'per s')
    // Several at once is for the others a batch that they take and end in one statement; a step of ours ends by itself,
    // with its events, its followers and its audit entry. That is told, and held to nothing.
    const goal = slots === 1 ? ({ op: '>=', value: 1 } as const) : undefined
    isMet = result(`dispatch.pg.${label}.ratio`, ours / Math.max(...others), 'of the better', goal) && isMet
  }
  const starts = (filled.get('ledger') ?? []).map((ms) => load.units / stepsPerRun / (ms / 1000))
  result('dispatch.pg.start_run', median(starts), 'runs per s')
  await close()
  return isMet
}

async function latency(url: string, queues: ReadonlyMap<QueueName, Queue>): Promise<boolean> {
  for (const [name, queue] of queues) {
    const times = await timed(name, queue, url, 1)
    result(`dispatch.pg.pick-up.${name}.p50`, quantile(times, 0.5), 'ms')
    result(`dispatch.pg.pick-up.${name}.p95`, quantile(times, 0.95), 'ms')
  }
  const ledger = queues.get('ledger')
  if (!ledger) return false
  const times = await timed('ledger', ledger, url, stepsPerRun)
  const isMet = result('dispatch.pg.three-steps.p50', quantile(times, 0.5), 'ms', { op: '<=', value: 15 })
  result('dispatch.pg.three-steps.p95', quantile(times, 0.95), 'ms')
  return isMet
}

// One after the other, each asked for when the one before has long ended: from asking to the end in the other process.
async function timed(name: QueueName, queue: Queue, url: string, steps: number): Promise<number[]> {
  const ends = new Map<string, { count: number; at: number }>()
  await using workers = await crew(name, url, { processes: 1, slots: 4, mode: 'each' })
  workers.watch((id, at) => ends.set(id, { count: (ends.get(id)?.count ?? 0) + 1, at }))
  const times: number[] = []
  for (let i = 0; i < load.latency + 10; i++) {
    const startedAt = now()
    const id = await queue.send(steps)
    while (ends.get(id)?.count !== steps) await new Promise((resolve) => setTimeout(resolve, 2))
    // The first ones find caches cold and a worker that is still coming up.
    if (i >= 10) times.push((ends.get(id)?.at ?? 0) - startedAt)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return times
}
