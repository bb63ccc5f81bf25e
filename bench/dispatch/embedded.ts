import { createRequire } from 'node:module'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { inProcessWaker } from '../../shared/waking/waker.ts'
import { openPglite } from '../../standalone/pglite.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { result } from '../result.ts'
import { now } from './crew.ts'
import { median, quantile } from './quantile.ts'
import { boss, clearQueues, ledger, type Queue, stepsPerRun } from './queues.ts'

/**
 * The same in one process, on embedded PostgreSQL on disk: the ledger beside pg-boss, each in a database of its own.
 * graphile-worker cannot work there.
 */
export async function measureEmbedded(load: { units: number; rounds: number; latency: number }): Promise<boolean> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-dispatch-'))
  const own = await openPglite(join(folder, 'ledger'), migrationsFolder)
  const other = await PGlite.create(join(folder, 'pg-boss'))
  const tools = createRequire(import.meta.filename)
  const { fromPglite }: { fromPglite(client: unknown): object } = tools('pg-boss')
  const open: Record<'ledger' | 'pg-boss', () => Queue> = {
    ledger: () => ledger(own.db, inProcessWaker(), async () => undefined),
    'pg-boss': () => boss({ db: fromPglite(other), backend: 'pglite' }),
  }
  const rates = { ledger: [] as number[], 'pg-boss': [] as number[] }
  for (let round = 0; round < load.rounds; round++) {
    for (const name of ['ledger', 'pg-boss'] as const) {
      const queue = open[name]()
      await queue.prepare()
      const units = Math.ceil(load.units / 2 / stepsPerRun) * stepsPerRun
      await queue.fill(units)
      rates[name].push(await inProcess(queue, units))
      await queue.close()
      if (name === 'ledger') await clearQueues(own.db)
    }
  }
  for (const name of ['ledger', 'pg-boss'] as const) result(`dispatch.embedded.${name}`, median(rates[name]), 'per s')
  const ratio = median(rates.ledger) / median(rates['pg-boss'])
  const isFast = result('dispatch.embedded.ratio', ratio, 'of pg-boss', { op: '>=', value: 1 })

  const queue = open.ledger()
  await queue.prepare()
  const counts = new Map<string, number>()
  let ended = (): void => undefined
  const working = queue.work(4, (id) => {
    counts.set(id, (counts.get(id) ?? 0) + 1)
    if (counts.get(id) === stepsPerRun) ended()
  })
  const times: number[] = []
  for (let i = 0; i < load.latency + 10; i++) {
    const { promise, resolve } = Promise.withResolvers<void>()
    ended = resolve
    const startedAt = now()
    await queue.send(stepsPerRun)
    await promise
    if (i >= 10) times.push(now() - startedAt)
  }
  const isPrompt = result('dispatch.embedded.three-steps.p50', quantile(times, 0.5), 'ms', { op: '<=', value: 20 })
  result('dispatch.embedded.three-steps.p95', quantile(times, 0.95), 'ms')
  await queue.close()
  await working
  await own.close()
  await other.close()
  await rm(folder, { recursive: true, force: true })
  return isFast && isPrompt
}

// Four claimers that do one at a time.
function inProcess(queue: Queue, units: number): Promise<number> {
  const startedAt = now()
  return new Promise((resolve, reject) => {
    let count = 0
    const done = (): void => {
      if (++count === units) resolve(units / ((now() - startedAt) / 1000))
    }
    for (let i = 0; i < 4; i++) queue.work(1, done).catch(reject)
  })
}
