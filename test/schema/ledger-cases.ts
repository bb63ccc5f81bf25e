import { and, asc, eq, sql } from 'drizzle-orm'
import { describe, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { auditEvent, outbox, pipelineRun, runEvent, runStep, tenantQueue } from '../../schema/tables/index.ts'
import { type Db, withTenant } from '../../shared/db/db.ts'
import { errorData, AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import * as ledger from '../../shared/runs/ledger.ts'
import type { PlannedStep } from '../../shared/runs/plan.ts'
import { expireLeases, makeTenant, passed } from '../support/database.ts'
import { plannedRun, plannedStep } from '../support/runs.ts'

type Step = {
  key: string
  needs?: string[]
  trigger?: PlannedStep['trigger']
  allowFailure?: boolean
  maxAttempts?: number
  timeoutMs?: number
  queue?: PlannedStep['queue']
  forEach?: unknown
}
type Tenant = Awaited<ReturnType<typeof makeTenant>>

const planned = (steps: Step[]): PlannedStep[] =>
  steps.map((step, position) =>
    plannedStep(step.key, {
      position,
      queue: step.queue ?? 'ingest',
      trigger: step.trigger ?? 'on_success',
      needs: step.needs ?? [],
      max_attempts: step.maxAttempts ?? 1,
      timeout_ms: step.timeoutMs ?? 60_000,
      allow_failure: step.allowFailure ?? false,
      ...(step.forEach === undefined ? {} : { for_each: step.forEach }),
    }),
  )

const failure = (retry: 'never' | 'later' = 'never') =>
  errorData(new AppError('SOURCE_FAILED', 'The source broke.', { retry }))

/** The ledger's guarantees; every engine that the product runs on must keep them. `db` is a migrated database. */
export function ledgerCases(engine: string, open: () => Db): void {
  const newRun = (t: Tenant, steps: Step[], more: Partial<ledger.NewRun>): ledger.NewRun =>
    plannedRun(t.pipelineId, planned(steps), more)
  const start = (t: Tenant, steps: Step[], more: Partial<ledger.NewRun> = {}) =>
    withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) => ledger.startRun(tx, newRun(t, steps, more)))
  const started = async (t: Tenant, steps: Step[], more: Partial<ledger.NewRun> = {}): Promise<string> => {
    const answer = await start(t, steps, more)
    if (!('runId' in answer)) throw new Error(`refused: ${answer.refused}`)
    return answer.runId
  }
  const claim = (t: Tenant, limit = 10) =>
    ledger.claimSteps(open(), { worker: 'w1', queues: queueTypes, limit, leaseMs: 30_000, tenants: [t.tenantId] })
  const claimOne = async (t: Tenant): Promise<ledger.Claim> => {
    const [one] = await claim(t, 1)
    if (!one) throw new Error('nothing to claim')
    return one
  }
  const see = (t: Tenant, runId: string) =>
    withTenant(open(), { tenantId: t.tenantId, side: 'api' }, async (tx) => {
      const [run] = await tx
        .select()
        .from(pipelineRun)
        .where(and(eq(pipelineRun.tenantId, t.tenantId), eq(pipelineRun.runId, runId)))
      if (!run) throw new Error('no such run')
      const steps = await tx
        .select()
        .from(runStep)
        .where(and(eq(runStep.tenantId, t.tenantId), eq(runStep.runId, runId)))
      const events = await tx.select().from(runEvent).where(eq(runEvent.runId, runId)).orderBy(asc(runEvent.seq))
      return { run, events, states: Object.fromEntries(steps.map((step) => [step.stepKey, step.state])), steps }
    })
  const slots = (t: Tenant) =>
    withTenant(open(), { tenantId: t.tenantId, side: 'api' }, async (tx) => {
      const rows = await tx.select().from(tenantQueue).where(eq(tenantQueue.tenantId, t.tenantId))
      return rows.reduce((sum, row) => sum + row.running, 0)
    })
  /** Runs a run to its end, each step with the outcome that is given for it (success by default). */
  const drain = async (t: Tenant, outcomes: Record<string, 'fail'> = {}): Promise<string[]> => {
    const order: string[] = []
    for (;;) {
      const claims = await claim(t)
      if (claims.length === 0) return order
      for (const one of claims) {
        order.push(one.stepKey)
        if (outcomes[one.stepKey]) await ledger.failStep(open(), one, failure())
        else await ledger.completeStep(open(), one, { rows: 1 }, [])
      }
    }
  }

  describe(`the ledger on ${engine}`, () => {
    test('a run goes through its steps in the order of their needs and succeeds', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [{ key: 'a' }, { key: 'b', needs: ['a'] }, { key: 'c', needs: ['a', 'b'] }])
      expect(await drain(t)).toEqual(['a', 'b', 'c'])
      const { run, events } = await see(t, runId)
      expect(run).toMatchObject({ state: 'succeeded', pending: 0, failed: 0 })
      expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1))
      expect(events.at(-1)?.type).toBe('run.succeeded')
      expect(await slots(t)).toBe(0)
    })

    test('a failure skips what needs it, starts its handlers, and fails the run with its reason', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [
        { key: 'a' },
        { key: 'b', needs: ['a'] },
        { key: 'tidy', needs: ['a', 'b'], trigger: 'always' },
        { key: 'tell', needs: ['a', 'b'], trigger: 'on_failure' },
      ])
      await drain(t, { a: 'fail' })
      const { run, states } = await see(t, runId)
      expect(states).toEqual({ a: 'failed', b: 'skipped', tidy: 'succeeded', tell: 'succeeded' })
      expect(run.state).toBe('failed')
      expect(run.error).toMatchObject({ step: 'a', code: 'SOURCE_FAILED' })
    })

    test('a failure that is allowed counts as done', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [
        { key: 'a', allowFailure: true },
        { key: 'b', needs: ['a'] },
        { key: 'tell', needs: ['a', 'b'], trigger: 'on_failure' },
      ])
      await drain(t, { a: 'fail' })
      const { run, states } = await see(t, runId)
      expect(states).toEqual({ a: 'failed', b: 'succeeded', tell: 'skipped' })
      expect(run.state).toBe('succeeded')
    })

    test('a retryable failure comes back until its attempts are used up', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [{ key: 'a', maxAttempts: 2 }])
      expect(await ledger.failStep(open(), await claimOne(t), failure('later'))).toBe('retry')
      await expect.poll(async () => (await claim(t, 1)).map((one) => one.attempt), { interval: 5 }).toEqual([2])
      const { steps } = await see(t, runId)
      const second = steps[0]
      if (!second?.fence) throw new Error('not claimed')
      expect(
        await ledger.failStep(
          open(),
          { tenantId: t.tenantId, runId, stepKey: 'a', fence: second.fence, attempt: 2 },
          failure('later'),
        ),
      ).toBe('dead')
      expect((await see(t, runId)).run.state).toBe('failed')
    })

    test('a stale fence changes nothing', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [{ key: 'a' }])
      const first = await claimOne(t)
      await expireLeases(open())
      await ledger.tick(open())
      const second = await claimOne(t)
      expect(second.fence > first.fence).toBe(true)
      expect(await ledger.completeStep(open(), first, {}, [])).toBe(false)
      expect(await ledger.failStep(open(), first, failure())).toBe('stale')
      expect(await ledger.heartbeat(open(), first, 30_000)).toBe('stale')
      expect(await ledger.reportStep(open(), first, { progress: { done: 1 }, logs: [] })).toBe(false)
      expect((await see(t, runId)).states).toEqual({ a: 'running' })
      expect(await ledger.completeStep(open(), second, {}, [])).toBe(true)
      expect(await slots(t)).toBe(0)
    })

    test('a worker that dies costs a step no attempt, but not without end', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [{ key: 'a', maxAttempts: 1 }])
      for (let deaths = 0; deaths < 10; deaths++) {
        expect((await claimOne(t)).attempt).toBe(1)
        await expireLeases(open())
        await ledger.tick(open())
      }
      await claimOne(t)
      await expireLeases(open())
      await ledger.tick(open())
      const { run } = await see(t, runId)
      expect(run.error).toMatchObject({ code: 'LEASE_EXPIRED' })
      expect(await slots(t)).toBe(0)
    })

    test('cancel ends ready steps at once, running ones as cancelled when they obey, and starts nothing more', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [
        { key: 'a' },
        { key: 'b', needs: ['a'] },
        { key: 'tidy', needs: ['b'], trigger: 'always' },
      ])
      const one = await claimOne(t)
      const answer = await withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
        ledger.cancelRun(tx, { runId, reason: 'user', actor: 'key:test', requestId: null }),
      )
      expect(answer).toBe('cancelling')
      expect(await ledger.heartbeat(open(), one, 30_000)).toBe('cancel')
      expect(await ledger.cancelStep(open(), one)).toBe(true)
      const { run, states } = await see(t, runId)
      expect(states).toEqual({ a: 'cancelled', b: 'cancelled', tidy: 'cancelled' })
      expect(run.state).toBe('cancelled')
      expect(await slots(t)).toBe(0)
    })

    test('a run past its deadline ends as timed out, a step past its timeout fails with that reason', async () => {
      const t = await makeTenant(open())
      const late = await started(t, [{ key: 'a' }], { timeoutMs: 1 })
      await expect
        .poll(async () => {
          await ledger.tick(open())
          return (await see(t, late)).run.state
        })
        .toBe('timed_out')
      const slow = await started(t, [{ key: 'a', timeoutMs: 1 }])
      const one = await claimOne(t)
      await expect.poll(() => ledger.heartbeat(open(), one, 30_000)).toBe('timeout')
      await expireLeases(open())
      await ledger.tick(open())
      expect((await see(t, slow)).run).toMatchObject({ state: 'failed', error: { code: 'TIMED_OUT' } })
    })

    test('a released step comes back with its attempt', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [{ key: 'a' }])
      const one = await claimOne(t)
      expect(await ledger.releaseStep(open(), one, 'stop')).toBe('released')
      expect(await claimOne(t)).toMatchObject({ runId, attempt: 1 })
    })

    test('a step outlives any number of stops', async () => {
      const t = await makeTenant(open())
      await started(t, [{ key: 'a', maxAttempts: 1 }])
      for (let stops = 0; stops < 12; stops++)
        expect(await ledger.releaseStep(open(), await claimOne(t), 'stop')).toBe('released')
      expect((await claimOne(t)).attempt).toBe(1)
    })

    test('retry runs what did not succeed and all after it, and keeps what did', async () => {
      const t = await makeTenant(open())
      const steps: Step[] = [
        { key: 'a' },
        { key: 'b', needs: ['a'] },
        { key: 'c', needs: ['b'] },
        { key: 'tell', needs: ['a', 'b', 'c'], trigger: 'on_failure' },
      ]
      const runId = await started(t, steps)
      await drain(t, { b: 'fail' })
      const retry = (from: string | null) =>
        withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
          ledger.retryRun(tx, { runId, from, actor: 'key:test', requestId: null }),
        )
      expect(await retry(null)).toEqual({ state: 'running' })
      expect(await retry(null)).toEqual({ refused: 'CONFLICT', state: 'running' })
      expect(await drain(t)).toEqual(['b', 'c'])
      const after = await see(t, runId)
      expect(after.states).toEqual({ a: 'succeeded', b: 'succeeded', c: 'succeeded', tell: 'skipped' })
      expect(after.run).toMatchObject({ state: 'succeeded', error: null, pending: 0 })
      expect(await retry('b')).toEqual({ state: 'running' })
      expect(await drain(t)).toEqual(['b', 'c'])
      expect(await retry('nothing')).toEqual({ refused: 'NOT_FOUND' })
    })

    test('an idempotency key starts one run; another input under it is a conflict', async () => {
      const t = await makeTenant(open())
      const key = { idempotencyKey: 'today', inputHash: 'h1' }
      const first = await start(t, [{ key: 'a' }], key)
      expect(first).toMatchObject({ created: true })
      const again = await start(t, [{ key: 'a' }], key)
      expect(again).toEqual({ ...first, created: false })
      expect(await start(t, [{ key: 'a' }], { ...key, inputHash: 'h2' })).toMatchObject({ conflict: true })
    })

    test('the plan bounds running steps over all queues and unfinished runs', async () => {
      const t = await makeTenant(open(), { maxRunningTotal: 2, maxQueuedRuns: 3 })
      for (let i = 0; i < 3; i++) await started(t, [{ key: 'a' }, { key: 'b' }])
      expect(await start(t, [{ key: 'a' }])).toMatchObject({ refused: 'QUOTA_EXCEEDED', limit: 3, used: 3 })
      const first = await claim(t)
      const second = await claim(t)
      expect(first.length + second.length).toBe(2)
      expect(await claim(t)).toEqual([])
    })

    test('a tenant with a long backlog does not keep another waiting', async () => {
      const busy = await makeTenant(open(), { maxQueuedRuns: 500 })
      const quiet = await makeTenant(open())
      for (let i = 0; i < 20; i++) await started(busy, [{ key: 'a' }])
      await started(quiet, [{ key: 'a' }])
      const both = [busy.tenantId, quiet.tenantId]
      const claims = await ledger.claimSteps(open(), {
        worker: 'w1',
        queues: queueTypes,
        limit: 2,
        leaseMs: 30_000,
        tenants: both,
      })
      expect(claims.map((one) => one.tenantId).sort()).toEqual([...both].sort())
    })

    test('completing a step writes its mail, effect and audit row, once', async () => {
      const t = await makeTenant(open())
      await started(t, [{ key: 'a' }])
      const one = await claimOne(t)
      const mail = {
        id: newId('outbox'),
        kind: 'email' as const,
        payload: { to: ['a@example.com'], subject: 's', text: 't' },
      }
      expect(await ledger.completeStep(open(), one, { rows: 3 }, [mail])).toBe(true)
      expect(await ledger.completeStep(open(), one, { rows: 3 }, [mail])).toBe(false)
      const rows = await withTenant(open(), { tenantId: t.tenantId, side: 'worker' }, async (tx) => ({
        mails: await tx.select().from(outbox).where(eq(outbox.tenantId, t.tenantId)),
        audits: await tx
          .select()
          .from(auditEvent)
          .where(and(eq(auditEvent.tenantId, t.tenantId), eq(auditEvent.action, 'step.succeeded'))),
      }))
      expect(rows.mails).toHaveLength(1)
      expect(rows.audits).toHaveLength(1)
      const due = (await ledger.claimOutbox(open(), 100, 60_000)).filter((message) => message.tenantId === t.tenantId)
      expect(due).toHaveLength(1)
      expect(
        (await ledger.claimOutbox(open(), 100, 60_000)).filter((message) => message.tenantId === t.tenantId),
      ).toEqual([])
    })

    test('a run too many waits in its group, oldest first, and starts when a place is free', async () => {
      const t = await makeTenant(open())
      const group = { concurrency: { group: 'g', limit: 1, onConflict: 'queue' as const } }
      const runs = [
        await started(t, [{ key: 'a' }], group),
        await started(t, [{ key: 'a' }], group),
        await started(t, [{ key: 'a' }], group),
      ]
      const order: string[] = []
      for (;;) {
        const claims = await claim(t)
        if (claims.length === 0) break
        expect(claims).toHaveLength(1)
        for (const one of claims) {
          order.push(one.runId)
          await ledger.completeStep(open(), one, {}, [])
        }
      }
      expect(order).toEqual(runs)
      expect(await slots(t)).toBe(0)
    })

    test('a run too many is refused, or takes the place of those before it, as its pipeline says', async () => {
      const t = await makeTenant(open())
      const group = (onConflict: 'skip' | 'cancel_running') => ({ concurrency: { group: 'g', limit: 1, onConflict } })
      const first = await started(t, [{ key: 'a' }, { key: 'b', needs: ['a'] }], group('skip'))
      expect(await start(t, [{ key: 'a' }], group('skip'))).toEqual({ refused: 'GROUP_BUSY', runId: first })
      const held = await claimOne(t)
      const second = await started(t, [{ key: 'a' }], group('cancel_running'))
      const third = await started(t, [{ key: 'a' }], group('cancel_running'))
      await ledger.tick(open())
      await ledger.tick(open())
      expect(await ledger.heartbeat(open(), held, 30_000)).toBe('cancel')
      expect(await ledger.cancelStep(open(), held)).toBe(true)
      await ledger.tick(open())
      await drain(t)
      const states = await Promise.all([first, second, third].map(async (id) => (await see(t, id)).run.state))
      expect(states).toEqual(['cancelled', 'cancelled', 'succeeded'])
      expect((await see(t, second)).run.cancelReason).toBe('replaced')
    })

    test('a run that waits in its group can be cancelled, and takes no place then', async () => {
      const t = await makeTenant(open())
      const group = { concurrency: { group: 'g', limit: 1, onConflict: 'queue' as const } }
      const first = await started(t, [{ key: 'a' }], group)
      const second = await started(t, [{ key: 'a' }, { key: 'b', needs: ['a'] }], group)
      const third = await started(t, [{ key: 'a' }], group)
      await withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
        ledger.cancelRun(tx, { runId: second, reason: 'user', actor: 'key:test', requestId: null }),
      )
      expect((await see(t, second)).run.state).toBe('cancelled')
      await drain(t)
      expect((await see(t, first)).run.state).toBe('succeeded')
      expect((await see(t, third)).run.state).toBe('succeeded')
    })

    test('steps of a run with a higher priority are handed out first', async () => {
      const t = await makeTenant(open())
      await started(t, [{ key: 'low' }], { priority: -1 })
      await started(t, [{ key: 'normal' }])
      await started(t, [{ key: 'high' }], { priority: 1 })
      expect(await drain(t)).toEqual(['high', 'normal', 'low'])
    })

    test('a step fans out into children, and what waited for it waits for all of them', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [
        { key: 'each', forEach: '{files}' },
        { key: 'join', needs: ['each'] },
        { key: 'tell', needs: ['each', 'join'], trigger: 'on_failure' },
      ])
      expect(await ledger.expandStep(open(), await claimOne(t), ['x', 'y', 'z'])).toBe(true)
      expect(await drain(t, { 'each[1]': 'fail' })).toEqual(['each[0]', 'each[1]', 'each[2]', 'tell'])
      const failed = await see(t, runId)
      expect(failed.run).toMatchObject({ state: 'failed', error: { step: 'each[1]' } })
      expect(failed.states).toMatchObject({ each: 'succeeded', join: 'skipped' })
      const retry = (from: string | null) =>
        withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
          ledger.retryRun(tx, { runId, from, actor: 'key:test', requestId: null }),
        )
      await retry(null)
      expect(await drain(t)).toEqual(['each[1]', 'join'])
      expect((await see(t, runId)).run).toMatchObject({ state: 'succeeded', pending: 0 })
      await retry('each')
      expect(await ledger.expandStep(open(), await claimOne(t), ['only'])).toBe(true)
      expect(await drain(t)).toEqual(['each[0]', 'join'])
      const again = await see(t, runId)
      expect(again.steps.map((step) => step.stepKey).sort()).toEqual(['each', 'each[0]', 'join', 'tell'])
      expect(again.steps.find((step) => step.stepKey === 'each[0]')).toMatchObject({ item: 'only', cycle: 1 })
      expect(again.run).toMatchObject({ state: 'succeeded', pending: 0 })
      expect(await slots(t)).toBe(0)
    })

    test('a step that fans out over nothing is done', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [
        { key: 'each', forEach: [] },
        { key: 'join', needs: ['each'] },
      ])
      await ledger.expandStep(open(), await claimOne(t), [])
      expect(await drain(t)).toEqual(['join'])
      expect((await see(t, runId)).run.state).toBe('succeeded')
    })

    const child = (t: Tenant, one: ledger.Claim, steps: Step[], more: Partial<ledger.NewRun> = {}) =>
      withTenant(open(), { tenantId: t.tenantId, side: 'worker' }, (tx) =>
        ledger.startChild(tx, one, newRun(t, steps, more)),
      )

    test('a step that started a run holds no slot, and ends as that run ends', async () => {
      const t = await makeTenant(open(), { maxRunningTotal: 1 })
      const runId = await started(t, [{ key: 'call' }, { key: 'after', needs: ['call'] }])
      const answer = await child(t, await claimOne(t), [{ key: 'a' }])
      if (!('runId' in answer)) throw new Error(answer.refused)
      expect(await slots(t)).toBe(0)
      await expireLeases(open())
      await ledger.tick(open())
      expect((await see(t, runId)).states).toEqual({ call: 'running', after: 'blocked' })
      expect(await drain(t)).toEqual(['a', 'after'])
      const { run, steps } = await see(t, runId)
      expect(run.state).toBe('succeeded')
      expect(steps.find((step) => step.stepKey === 'call')?.result).toEqual({
        run_id: answer.runId,
        state: 'succeeded',
      })
      expect((await see(t, answer.runId)).run).toMatchObject({ parentRunId: runId, parentStep: 'call', depth: 1 })
    })

    test('a step fails with the reason of the run that it started, and a cancel reaches down to it', async () => {
      const t = await makeTenant(open())
      const failed = await started(t, [{ key: 'call' }])
      await child(t, await claimOne(t), [{ key: 'a' }])
      await drain(t, { a: 'fail' })
      expect((await see(t, failed)).run.error).toMatchObject({ step: 'call', code: 'SOURCE_FAILED' })
      const cancelled = await started(t, [{ key: 'call' }])
      const answer = await child(t, await claimOne(t), [{ key: 'a' }])
      if (!('runId' in answer)) throw new Error(answer.refused)
      await withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
        ledger.cancelRun(tx, { runId: cancelled, reason: 'user', actor: 'key:test', requestId: null }),
      )
      await ledger.tick(open())
      await ledger.tick(open())
      expect((await see(t, answer.runId)).run.state).toBe('cancelled')
      expect((await see(t, cancelled)).run.state).toBe('cancelled')
      expect(await slots(t)).toBe(0)
    })

    test('runs start runs at most five deep, and none that would wait for its own ancestor', async () => {
      const t = await makeTenant(open())
      const group = { concurrency: { group: 'g', limit: 1, onConflict: 'queue' as const } }
      const runId = await started(t, [{ key: 'call' }], group)
      expect(await child(t, await claimOne(t), [{ key: 'call' }], group)).toEqual({ refused: 'GROUP_BUSY', runId })
      const top = await started(t, [{ key: 'call' }])
      for (let depth = 1; depth <= 5; depth++)
        expect(await child(t, await claimOne(t), [{ key: 'call' }])).toHaveProperty('runId')
      const last = await claimOne(t)
      expect(await child(t, last, [{ key: 'call' }])).toEqual({ refused: 'TOO_DEEP' })
      await ledger.completeStep(open(), last, {}, [])
      for (let depth = 1; depth <= 5; depth++) await ledger.tick(open())
      expect((await see(t, top)).run.state).toBe('succeeded')
    })

    test('a failed step is a dead letter until it is retried or discarded', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [{ key: 'a' }])
      const discard = () =>
        withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
          ledger.discardStep(tx, { runId, stepKey: 'a', reason: 'old', actor: 'key:test', requestId: null }),
        )
      expect(await discard()).toBe(false)
      await drain(t, { a: 'fail' })
      expect(await discard()).toBe(true)
      expect(await discard()).toBe(false)
      expect((await see(t, runId)).steps[0]).toMatchObject({ state: 'failed', discardedBy: 'key:test' })
    })

    test('the end of a step brings the next one whose turn it is, and a stale one brings nothing', async () => {
      const [t, other] = [await makeTenant(open()), await makeTenant(open())]
      const wanted = { worker: 'w1', queues: queueTypes, leaseMs: 30_000, tenants: [t.tenantId, other.tenantId] }
      const next = async (one: ledger.Claim): Promise<string | undefined> => {
        const ended = await ledger.completeAndClaim(open(), one, { rows: 1 }, [], wanted)
        expect(ended.isDone).toBe(true)
        held = ended.next ?? held
        return ended.next && `${ended.next.tenantId} ${ended.next.stepKey}`
      }
      const runId = await started(t, [{ key: 'a' }, { key: 'b', needs: ['a'] }, { key: 'c', needs: ['b'] }])
      let held = await claimOne(t)
      const first = held
      expect(await next(held)).toBe(`${t.tenantId} b`)
      expect(await ledger.completeAndClaim(open(), first, {}, [], wanted)).toEqual({ isDone: false, next: undefined })
      // The one of the other tenant first: its own is behind by what it had. Then nothing is left to be had.
      await started(other, [{ key: 'x' }])
      expect(await next(held)).toBe(`${other.tenantId} x`)
      expect(await next(held)).toBe(`${t.tenantId} c`)
      expect(await next(held)).toBeUndefined()
      const { run, events } = await see(t, runId)
      expect(run).toMatchObject({ state: 'succeeded', pending: 0 })
      expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1))
      expect([await slots(t), await slots(other)]).toEqual([0, 0])
    })

    test('a step that is brought keeps within the bounds of its tenant', async () => {
      const t = await makeTenant(open(), { maxRunningTotal: 1 })
      for (const key of ['a', 'b', 'c']) await started(t, [{ key }])
      const wanted = { worker: 'w1', queues: queueTypes, leaseMs: 30_000, tenants: [t.tenantId] }
      const seen: string[] = []
      for (let held: ledger.Claim | undefined = await claimOne(t); held;) {
        seen.push(held.stepKey)
        expect([await slots(t), await claim(t)]).toEqual([1, []])
        held = (await ledger.completeAndClaim(open(), held, {}, [], wanted)).next
      }
      expect([seen, await slots(t)]).toEqual([['a', 'b', 'c'], 0])
    })

    test('turns follow weights, whatever the steps take and however a tenant spreads them', async () => {
      const light = await makeTenant(open(), { maxQueuedRuns: 500, weight: 1 })
      const heavy = await makeTenant(open(), { maxQueuedRuns: 500, weight: 3 })
      for (let i = 0; i < 60; i++) {
        await started(light, [{ key: 'a' }, { key: 'b', queue: 'export' }])
        await started(heavy, [{ key: 'a' }])
      }
      const counts = new Map<string, number>()
      for (let i = 0; i < 60; i++) {
        const [one] = await ledger.claimSteps(open(), {
          worker: 'w1',
          queues: queueTypes,
          limit: 1,
          leaseMs: 30_000,
          tenants: [light.tenantId, heavy.tenantId],
        })
        if (!one) throw new Error('nothing to claim')
        counts.set(one.tenantId, (counts.get(one.tenantId) ?? 0) + 1)
        // Each step of both takes one second of the database's clock.
        await passed(open(), one, 1000)
        await ledger.completeStep(open(), one, {}, [])
      }
      const share = (counts.get(heavy.tenantId) ?? 0) / 60
      expect(share).toBeGreaterThan(0.7)
      expect(share).toBeLessThan(0.8)
    })

    test('a queue that had little to do so far takes no turns from those that had much', async () => {
      const long = await makeTenant(open(), { maxQueuedRuns: 500 })
      const fresh = await makeTenant(open(), { maxQueuedRuns: 500 })
      const tenants = [long.tenantId, fresh.tenantId]
      const serve = async (): Promise<string> => {
        const [one] = await ledger.claimSteps(open(), {
          worker: 'w1',
          queues: queueTypes,
          limit: 1,
          leaseMs: 30_000,
          tenants,
        })
        if (!one) throw new Error('nothing to claim')
        await passed(open(), one, 20_000)
        await ledger.completeStep(open(), one, {}, [])
        return one.tenantId
      }
      for (let i = 0; i < 20; i++) await started(long, [{ key: 'a', queue: 'transform' }])
      for (let i = 0; i < 10; i++) await serve()
      for (let i = 0; i < 10; i++) await started(fresh, [{ key: 'a', queue: 'delivery' }])
      const served: string[] = []
      for (let i = 0; i < 8; i++) served.push(await serve())
      expect(served.filter((id) => id === long.tenantId).length).toBeGreaterThanOrEqual(3)
      expect(served.filter((id) => id === fresh.tenantId).length).toBeGreaterThanOrEqual(3)
    })

    test('a tenant that comes back after a pause is served next, and has saved up no turns', async () => {
      const busy = await makeTenant(open(), { maxQueuedRuns: 500 })
      const back = await makeTenant(open(), { maxQueuedRuns: 500 })
      for (let i = 0; i < 40; i++) await started(busy, [{ key: 'a' }])
      const serve = async (): Promise<string> => {
        const [one] = await ledger.claimSteps(open(), {
          worker: 'w1',
          queues: queueTypes,
          limit: 1,
          leaseMs: 30_000,
          tenants: [busy.tenantId, back.tenantId],
        })
        if (!one) throw new Error('nothing to claim')
        await passed(open(), one, 1000)
        await ledger.completeStep(open(), one, {}, [])
        return one.tenantId
      }
      for (let i = 0; i < 20; i++) await serve()
      for (let i = 0; i < 20; i++) await started(back, [{ key: 'a' }])
      expect(await serve()).toBe(back.tenantId)
      const next = [await serve(), await serve(), await serve(), await serve()]
      expect(next.filter((tenant) => tenant === busy.tenantId)).toHaveLength(2)
    })

    test('the control plane can read the ledger and cannot write it', async () => {
      const t = await makeTenant(open())
      const runId = await started(t, [{ key: 'a' }])
      const write = withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
        tx.update(pipelineRun).set({ state: 'succeeded' }).where(eq(pipelineRun.runId, runId)),
      )
      await expect(write).rejects.toMatchObject({ cause: { code: '42501' } })
    })

    test('a tenant can neither see, cancel nor retry the run of another', async () => {
      const mine = await makeTenant(open())
      const theirs = await makeTenant(open())
      const runId = await started(theirs, [{ key: 'a' }])
      const asMine = <T>(work: Parameters<typeof withTenant<T>>[2]) =>
        withTenant(open(), { tenantId: mine.tenantId, side: 'api' }, work)
      expect(await asMine((tx) => tx.select().from(pipelineRun))).toEqual([])
      expect(await asMine((tx) => ledger.cancelRun(tx, { runId, reason: 'x', actor: 'x', requestId: null }))).toBeNull()
      expect(await asMine((tx) => ledger.retryRun(tx, { runId, from: null, actor: 'x', requestId: null }))).toEqual({
        refused: 'NOT_FOUND',
      })
    })

    test('random graphs with random outcomes end as the model says', async () => {
      const t = await makeTenant(open(), { maxRunningTotal: 100, maxQueuedRuns: 1000 })
      await withTenant(open(), { tenantId: t.tenantId, side: 'api' }, (tx) =>
        tx.update(tenantQueue).set({ maxRunning: 50, quantum: 50 }).where(eq(tenantQueue.tenantId, t.tenantId)),
      )
      for (let seed = 1; seed <= 40; seed++) {
        const { steps, outcomes } = randomGraph(seed)
        const runId = await started(t, steps)
        await drain(t, outcomes)
        const { run, states } = await see(t, runId)
        expect({ seed, states, run: run.state, pending: run.pending }).toEqual({
          seed,
          ...modelOf(steps, outcomes),
          pending: 0,
        })
      }
      expect(await slots(t)).toBe(0)
    })

    test('what no wake told of is found by tick', async () => {
      const t = await makeTenant(open())
      await started(t, [{ key: 'a' }])
      await open().transaction(async (tx) => {
        await tx.execute(sql`select set_config('role', 'tributary_ledger', true)`)
        await tx.execute(sql`update app.tenant_queue set next_ready_at = 'infinity' where tenant_id = ${t.tenantId}`)
      })
      expect(await claim(t)).toEqual([])
      expect(await ledger.tick(open())).toContainEqual({ tenantId: t.tenantId, queue: 'ingest' })
      expect(await claim(t)).toHaveLength(1)
    })
  })
}

// mulberry32: small, seeded, good enough to vary graphs.
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function randomGraph(seed: number): { steps: Step[]; outcomes: Record<string, 'fail'> } {
  const next = random(seed)
  const steps: Step[] = []
  const outcomes: Record<string, 'fail'> = {}
  const count = 1 + Math.floor(next() * 8)
  for (let i = 0; i < count; i++) {
    const key = `s${i}`
    const needs = steps.filter(() => next() < 0.4).map((step) => step.key)
    const dice = next()
    const trigger = needs.length === 0 || dice < 0.6 ? 'on_success' : dice < 0.8 ? 'on_failure' : 'always'
    steps.push({ key, needs, trigger, allowFailure: next() < 0.2 })
    if (next() < 0.3) outcomes[key] = 'fail'
  }
  return { steps, outcomes }
}

// The rules of the ledger in a few lines, in the order of the list (needs always point back).
function modelOf(steps: Step[], outcomes: Record<string, 'fail'>): { states: Record<string, string>; run: string } {
  const states: Record<string, string> = {}
  const allowed = new Set(steps.filter((step) => step.allowFailure).map((step) => step.key))
  const isFailed = (key: string): boolean => states[key] === 'failed' && !allowed.has(key)
  const isFine = (key: string): boolean => states[key] === 'succeeded' || (states[key] === 'failed' && allowed.has(key))
  for (const step of steps) {
    const needs = step.needs ?? []
    const runs =
      step.trigger === 'always' || (step.trigger === 'on_failure' ? needs.some(isFailed) : needs.every(isFine))
    states[step.key] = runs ? (outcomes[step.key] === 'fail' ? 'failed' : 'succeeded') : 'skipped'
  }
  return { states, run: steps.some((step) => isFailed(step.key)) ? 'failed' : 'succeeded' }
}
