import { describe, expect, test } from 'vitest'
import { inProcessHub } from '../../../shared/waking/hub.ts'
import { inProcessWaker } from '../../../shared/waking/waker.ts'
import { hubContract } from '../../contracts/hub.ts'

const run = { tenantId: 'a', runId: 'run_1' }
const never = new AbortController().signal

describe('what every hub keeps to', () => {
  const hub = inProcessHub()
  hubContract(async () => ({ here: hub, there: hub, close: async () => undefined }))
})

test('a hint ends the waiting of its run, and of no other run or tenant', async () => {
  const hub = inProcessHub()
  const ended: string[] = []
  const wait = (name: string, hint = run): Promise<void> =>
    hub.wait(hint, 60_000, never).then(() => void ended.push(name))
  const mine = wait('mine')
  const abort = new AbortController()
  const others = [
    hub.wait({ ...run, tenantId: 'b' }, 60_000, abort.signal),
    hub.wait({ ...run, runId: 'run_2' }, 60_000, abort.signal),
  ].map((one) => one.then(() => void ended.push('other')))
  hub.notify(run)
  await mine
  expect(ended).toEqual(['mine'])
  abort.abort()
  await Promise.all(others)
})

test('who waits for a tenant hears of its runs and of itself, and of no other tenant', async () => {
  const hub = inProcessHub()
  for (const topic of [run, { tenantId: 'a' }]) {
    const heard = hub.wait({ tenantId: 'a' }, 60_000, never)
    hub.notify({ tenantId: 'b', runId: run.runId })
    hub.notify(topic)
    await heard
  }
  const abort = new AbortController()
  let isOver = false
  const other = hub.wait(run, 60_000, abort.signal).then(() => (isOver = true))
  hub.notify({ tenantId: 'a' })
  await Promise.resolve()
  expect(isOver).toBe(false)
  abort.abort()
  await other
})

test('waiting ends by itself after its time, and at once when nobody waits for it any more', async () => {
  const hub = inProcessHub()
  const abort = new AbortController()
  const waiting = [
    hub.wait(run, 1, never),
    hub.wait(run, 60_000, AbortSignal.abort()),
    hub.wait(run, 60_000, abort.signal),
  ]
  abort.abort()
  expect(await Promise.all(waiting)).toHaveLength(3)
})

test('a waker calls every listener until it is disposed', async () => {
  const waker = inProcessWaker()
  const heard: string[] = []
  const first = waker.listen(({ queue }) => heard.push(`first ${queue}`))
  waker.listen(({ queue }) => heard.push(`second ${queue}`))
  await waker.wake({ tenantId: 'a', queue: 'ingest' })
  first[Symbol.dispose]()
  await waker.wake({ tenantId: 'a', queue: 'export' })
  expect(heard).toEqual(['first ingest', 'second ingest', 'second export'])
})
