import { queueTypes } from '../../../schema/states.ts'
import { type Db, withTenant } from '../../../shared/db/db.ts'
import { AppError, errorData } from '../../../shared/errors.ts'
import { newId } from '../../../shared/ids.ts'
import * as ledger from '../../../shared/runs/ledger.ts'
import type { Random } from './random.ts'
import { type Actor, PortError, type Wish } from './scheduler.ts'
import { type Outcome, stepName, type WantedRun } from './workload.ts'

/** What the actors of one simulation share. */
export type Stage = {
  db: Db
  random: Random
  tenants: readonly string[]
  outcomes: ReadonlyMap<string, Outcome>
  leaseMs: number
  now(): number
  /** Who has a step by what was called, whether or not the answer came through: its fence, until when, and whether another one lost it. */
  held: Map<string, { fence: bigint; until: number; isTakenOver: boolean }>
  /** What the ledger did that it must not, in words. */
  broken: string[]
}

const failure = (retry: 'never' | 'later') => errorData(new AppError('SOURCE_FAILED', 'The source broke.', { retry }))

/** A worker that does one step at a time; what a lost answer means to it is what it means to the real one. */
export function* worker(stage: Stage): Actor {
  const id = newId('worker')
  for (;;) {
    let claims: ledger.Claim[] = []
    try {
      claims = (yield port('claim', () => claim(stage, id))) as ledger.Claim[] // the answer of this very call
    } catch (error) {
      mustBeOurs(error)
    }
    if (claims.length === 0) yield { sleepMs: stage.random.whole(200, 1_000) }
    for (let claim = claims.shift(); claim; claim = claims.shift()) {
      try {
        const next = yield* work(stage, id, claim)
        if (next) claims.push(next)
      } catch (error) {
        mustBeOurs(error)
      }
    }
  }
}

async function claim(stage: Stage, id: string): Promise<ledger.Claim[]> {
  const claims = await ledger.claimSteps(stage.db, { ...wantedBy(stage, id), limit: 1 })
  for (const one of claims) hold(stage, one)
  return claims
}

const wantedBy = ({ leaseMs, tenants }: Stage, id: string): ledger.Wanted => ({
  worker: id,
  queues: queueTypes,
  leaseMs,
  tenants,
})

function hold(stage: Stage, one: ledger.Claim): void {
  const before = stage.held.get(nameOf(one))
  if (before && stage.now() < before.until) stage.broken.push(`step ${nameOf(one)} was handed out while its lease ran`)
  const until = stage.now() + stage.leaseMs
  stage.held.set(nameOf(one), { fence: one.fence, until, isTakenOver: before !== undefined })
}

async function completeAndClaim(stage: Stage, id: string, claim: ledger.Claim): Promise<ledger.Claim | undefined> {
  const { isDone, next } = await ledger.completeAndClaim(stage.db, claim, { rows: 1 }, [], wantedBy(stage, id))
  await end(stage, claim, Promise.resolve(isDone))
  if (next && !isDone) stage.broken.push(`a step came with the end of ${nameOf(claim)}, which was not taken`)
  if (next) hold(stage, next)
  return next
}

async function heartbeat(stage: Stage, claim: ledger.Claim): Promise<ledger.Order> {
  const order = await ledger.heartbeat(stage.db, claim, stage.leaseMs)
  if (order !== 'stale') mustHold(stage, claim, 'a heartbeat')
  const held = stage.held.get(nameOf(claim))
  if (order === 'ok' && held) held.until = stage.now() + stage.leaseMs
  return order
}

// A word about a step that the ledger took ends the hold of the one whose word it was; nobody else's may be taken.
async function end<T>(stage: Stage, claim: ledger.Claim, answer: Promise<T>): Promise<T> {
  const taken = await answer
  if (taken === false || taken === 'stale' || isRefusal(taken)) return taken
  mustHold(stage, claim, 'the end')
  stage.held.delete(nameOf(claim))
  return taken
}

function mustHold(stage: Stage, claim: ledger.Claim, word: string): void {
  if (stage.held.get(nameOf(claim))?.fence !== claim.fence)
    stage.broken.push(`${word} of step ${nameOf(claim)} was taken from one who had lost it`)
}

const isRefusal = (answer: unknown): boolean => typeof answer === 'object' && answer !== null && 'refused' in answer
const nameOf = (claim: ledger.Claim): string => stepName(claim.runId, claim.stepKey)

// Answers what it was given along with the end of the step.
function* work(stage: Stage, id: string, claim: ledger.Claim): Generator<Wish, ledger.Claim | undefined, unknown> {
  const { db, random, leaseMs } = stage
  // Who has what another one lost is still at it when the other comes back.
  const isTakenOver = stage.held.get(nameOf(claim))?.isTakenOver ?? false
  const lasts = isTakenOver ? random.whole(leaseMs / 2, 2 * leaseMs) : random.whole(5, 200)
  let left = random.chance(0.1) ? leaseMs * 2 : lasts
  for (let order: ledger.Order = 'ok'; left > 0; left -= leaseMs / 3) {
    yield { sleepMs: Math.min(left, leaseMs / 3) }
    try {
      order = (yield port('heartbeat', () => heartbeat(stage, claim))) as ledger.Order // of this call
    } catch (error) {
      mustBeOurs(error)
    }
    if (order === 'stale') return undefined
    if (order === 'cancel' || order === 'release') {
      if (order === 'cancel') yield last('cancel', () => end(stage, claim, ledger.cancelStep(db, claim)))
      else yield last('release', () => end(stage, claim, ledger.releaseStep(db, claim, 'stop')))
      return undefined
    }
  }
  // A child of a fanned out step has no outcome of its own: it succeeds.
  const outcome = stage.outcomes.get(stepName(claim.runId, claim.stepKey)) ?? 'succeed'
  if (outcome === 'fail') yield last('fail', () => end(stage, claim, ledger.failStep(db, claim, failure('never'))))
  else if (outcome === 'fail_once' && claim.attempt === 1)
    yield last('fail', () => end(stage, claim, ledger.failStep(db, claim, failure('later'))))
  else if (typeof outcome === 'object' && 'items' in outcome) {
    const items = Array.from({ length: outcome.items }, (_, index) => index)
    yield last('expand', () => end(stage, claim, ledger.expandStep(db, claim, items)))
  } else if (typeof outcome === 'object') {
    // Each try starts a run of its own.
    const run = { ...outcome.child, runId: newId('run') }
    yield last('child', () =>
      end(
        stage,
        claim,
        withTenant(db, { tenantId: claim.tenantId, side: 'worker' }, (tx) => ledger.startChild(tx, claim, run)),
      ),
    )
  } else if (random.chance(0.5)) {
    return (yield last('complete', () => completeAndClaim(stage, id, claim))) as ledger.Claim | undefined // of this call
  } else yield last('complete', () => end(stage, claim, ledger.completeStep(db, claim, { rows: 1 }, [])))
  return undefined
}

/** The housekeeping of one process. */
export function* housekeeper(stage: Stage): Actor {
  for (;;) {
    try {
      yield port('tick', () => ledger.tick(stage.db))
    } catch (error) {
      mustBeOurs(error)
    }
    yield { sleepMs: 1_000 }
  }
}

/** Starts a run, again and again under its key until it is told of it, and cancels it if that is wanted. */
export function* operator(stage: Stage, tenantId: string, wanted: WantedRun): Actor {
  yield { sleepMs: wanted.startAfterMs }
  yield* insist('start', () => withTenant(stage.db, { tenantId, side: 'api' }, (tx) => ledger.startRun(tx, wanted.run)))
  if (!wanted.isCancelled) return
  yield { sleepMs: stage.random.whole(0, 1_500) }
  const cancel = { runId: wanted.run.runId, reason: 'user', actor: 'key:simulation', requestId: null }
  yield* insist('cancel_run', () =>
    withTenant(stage.db, { tenantId, side: 'api' }, (tx) => ledger.cancelRun(tx, cancel)),
  )
}

function* insist(name: string, call: () => Promise<unknown>): Generator<Wish, void, unknown> {
  for (;;) {
    try {
      yield port(name, call)
      return
    } catch (error) {
      mustBeOurs(error)
    }
    yield { sleepMs: 100 }
  }
}

const port = (name: string, call: () => Promise<unknown>): Wish => ({ port: name, call })
// The word that ends a step: late, it meets the one who has the step by now.
const last = (name: string, call: () => Promise<unknown>): Wish => ({ port: name, call, isLate: true })

// Anything but a fault of the simulation is one of the ledger.
function mustBeOurs(error: unknown): void {
  if (!(error instanceof PortError)) throw error
}
