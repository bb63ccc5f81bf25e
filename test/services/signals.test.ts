import { sql } from 'drizzle-orm'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import type { Topic } from '../../shared/waking/hub.ts'
import { openPg, type OpenDb } from '../../workers/db/pg.ts'
import { channels, openSignals, type Signals } from '../../workers/db/signals.ts'
import { until } from '../support/control-plane.ts'
import { startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined
const url = 'url' in postgres ? postgres.url : ''
const run: Topic = { tenantId: 'acme', runId: 'run_1' }

describe.skipIf(left !== undefined)(`hints over a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let opened: OpenDb
  let here: Signals
  let there: Signals
  const logged: string[] = []
  beforeAll(() => {
    opened = openPg(url)
    const log = (event: string): void => void logged.push(event)
    const ports = { db: opened.db, clock: systemClock, log: { info: log, warn: log, error: log } }
    here = openSignals(url, ports)
    there = openSignals(url, ports)
  })
  afterAll(async () => {
    await Promise.all([here.close(), there.close()])
    await opened.close()
    if ('stop' in postgres) await postgres.stop()
  })
  const bothListen = (): Promise<void> => until('both listen', () => here.isListening() && there.isListening())

  // How often a watcher is woken until a minute has passed or `signal` says that it is enough.
  function watch(signals: Signals, topic: Topic): { woken: () => number; leave: () => Promise<void> } {
    const leaving = new AbortController()
    let woken = 0
    const watching = (async () => {
      while (!leaving.signal.aborted) {
        await signals.hub.wait(topic, 60_000, leaving.signal)
        if (!leaving.signal.aborted) woken++
      }
    })()
    return { woken: () => woken, leave: () => (leaving.abort(), watching) }
  }

  test('a hint reaches watchers of the run and of its tenant in every process, and no others', async () => {
    await bothListen()
    const watches = [here, there].map((signals) => ({
      run: watch(signals, run),
      tenant: watch(signals, { tenantId: 'acme' }),
      other: watch(signals, { ...run, tenantId: 'other' }),
    }))
    here.hub.notify(run)
    await until('both heard of the run', () => watches.every(({ run, tenant }) => run.woken() + tenant.woken() === 2))
    here.hub.notify({ tenantId: 'acme' })
    await until('both heard of the tenant', () => watches.every(({ tenant }) => tenant.woken() === 2))
    expect(watches.map((one) => [one.run.woken(), one.other.woken()])).toEqual([
      [1, 0],
      [1, 0],
    ])
    await Promise.all(watches.flatMap((one) => Object.values(one).map(({ leave }) => leave())))
  })

  test('a wake reaches workers of every process, once each', async () => {
    await bothListen()
    const heard: string[] = []
    const listening = [here, there].map((signals, index) =>
      signals.waker.listen(({ tenantId, queue }) => heard.push(`${index} ${tenantId} ${queue}`)),
    )
    await here.waker.wake({ tenantId: 'acme', queue: 'ingest' })
    await until('both heard', () => heard.length >= 2)
    await there.waker.wake({ tenantId: 'acme', queue: 'export' })
    await until('both heard again', () => heard.length >= 4)
    expect(heard.toSorted()).toEqual(['0 acme export', '0 acme ingest', '1 acme export', '1 acme ingest'])
    for (const one of listening) one[Symbol.dispose]()
  })

  test('ids alone go over the channels, and what anybody else says there harms nothing', async () => {
    await bothListen()
    const overheard: string[] = []
    const spy = watch(there, run)
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    client.on('notification', ({ payload }) => overheard.push(payload ?? ''))
    await client.query(`listen ${channels.run}; listen ${channels.wake}`)
    for (const text of ['', ' ', 'x', 'x acme run_1 more', `${'y'.repeat(4000)} z`, 'x acme nosuchqueue'])
      await opened.db.execute(sql`select pg_notify(${channels.wake}, ${text}), pg_notify(${channels.run}, ${text})`)
    here.hub.notify(run)
    await until('the watcher was woken', () => spy.woken() > 0)
    await until('the stranger heard it, too', () => overheard.length === 13)
    expect(overheard.at(-1)).toMatch(/^[0-9a-f]{8} acme run_1$/)
    await client.end()
    await spy.leave()
  })

  test('a process listens again by itself after the database went down, and its watchers look at once', async () => {
    await bothListen()
    const watcher = watch(there, run)
    if ('restart' in postgres) await postgres.restart()
    await until('it listens again', () => there.isListening() && here.isListening())
    await until('watchers look', () => watcher.woken() > 0)
    const before = watcher.woken()
    here.hub.notify(run)
    await until('hints come again', () => watcher.woken() > before)
    await watcher.leave()
    expect(logged.filter((event) => event === 'signals.lost').length).toBeGreaterThan(0)
  })
})
