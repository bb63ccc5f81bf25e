import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Hub, Topic } from '../../shared/waking/hub.ts'
import { until } from '../support/control-plane.ts'

/** Two hubs that hear each other, as two processes have them. */
export type Pair = { here: Hub; there: Hub; close(): Promise<void> }

/** How often a watcher is woken until a minute has passed or it leaves. */
export function watch(hub: Hub, topic: Topic): { woken: () => number; leave: () => Promise<void> } {
  const leaving = new AbortController()
  let woken = 0
  const watching = (async () => {
    while (!leaving.signal.aborted) {
      await hub.wait(topic, 60_000, leaving.signal)
      if (!leaving.signal.aborted) woken++
    }
  })()
  return { woken: () => woken, leave: () => (leaving.abort(), watching) }
}

/** What every hub keeps to, between processes and within one. */
export function hubContract(open: () => Promise<Pair>): void {
  const run = { tenantId: 'acme', runId: 'run_1' }
  const abort = new AbortController()
  let pair: Pair
  beforeAll(async () => {
    pair = await open()
  })
  afterAll(() => pair.close())

  // A watcher may hear nothing until it is being listened for: whoever says it until it is heard does not care.
  const heard = async (watcher: ReturnType<typeof watch>, hub: Hub, topic: Topic): Promise<void> => {
    const before = watcher.woken()
    await until(`${JSON.stringify(topic)} is heard`, () => {
      hub.notify(topic)
      return watcher.woken() > before
    })
    expect(watcher.woken()).toBeGreaterThan(before)
  }

  test('a hint reaches who watches the run, and who watches its tenant, here and there', async () => {
    for (const hub of [pair.here, pair.there])
      for (const topic of [run, { tenantId: 'acme' }]) {
        const watcher = watch(hub, topic)
        await heard(watcher, pair.here, run)
        await watcher.leave()
        expect(watcher.woken()).toBeGreaterThan(0)
      }
  })

  test('a hint for another run, tenant or topic wakes nobody else', async () => {
    const others = [
      { tenantId: 'acm' },
      { tenantId: 'acme_2' },
      { ...run, tenantId: 'other' },
      { ...run, runId: 'run_2' },
    ]
    for (const hub of [pair.here, pair.there]) {
      const last = watch(hub, { tenantId: 'acme' })
      const watchers = others.map((topic) => watch(hub, topic))
      // Once their own hints come through, only those count that were not theirs.
      for (const [i, topic] of others.entries()) {
        const watcher = watchers[i]
        if (watcher) await heard(watcher, pair.here, topic)
      }
      const settled = async (): Promise<number[]> => {
        for (let i = 0; i < 3; i++) await heard(last, pair.here, run)
        return watchers.map(({ woken }) => woken())
      }
      await settled()
      const before = await settled()
      expect(await settled()).toEqual(before)
      await Promise.all([last, ...watchers].map(({ leave }) => leave()))
    }
  })

  test('who watches a run is not woken for its tenant', async () => {
    for (const hub of [pair.here, pair.there]) {
      const [one, all] = [watch(hub, run), watch(hub, { tenantId: 'acme' })]
      await heard(one, pair.here, run)
      await heard(all, pair.here, { tenantId: 'acme' })
      const before = one.woken()
      for (let i = 0; i < 3; i++) await heard(all, pair.here, { tenantId: 'acme' })
      expect(one.woken()).toBe(before)
      await Promise.all([one.leave(), all.leave()])
    }
  })

  test('waiting ends by itself after its time, and at once when nobody waits for it any more', async () => {
    const gone = new AbortController()
    const waiting = [
      pair.here.wait(run, 1, abort.signal),
      pair.here.wait(run, 60_000, AbortSignal.abort()),
      pair.here.wait(run, 60_000, gone.signal),
    ]
    gone.abort()
    expect(await Promise.all(waiting)).toHaveLength(3)
  })
}
