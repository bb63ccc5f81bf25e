import type { Random } from './random.ts'

/** What an actor asks for: time to pass, or a call of a port; `isLate` when it is one that likes to come late. */
export type Wish = { sleepMs: number } | { port: string; call: () => Promise<unknown>; isLate?: boolean }
/** An actor: it yields wishes and gets the answers of its calls. */
export type Actor = Generator<Wish, void, unknown>

/** How often a port misbehaves, as probabilities per call. */
export type Faults = {
  /** The call is not made, and the caller is told that it failed. */
  lostBefore: number
  /** The call is made, and the caller is told that it failed. */
  lostAfter: number
  /** The caller dies before or after the call; another one of its kind takes its place later. */
  crash: number
  /** The caller stands still before the call, for so long: at least, at most. */
  pause: number
  /** The same for a call that likes to come late. */
  pauseIfLate: number
  pauseMs: readonly [number, number]
}

/** A call of a port did not come through. */
export class PortError extends Error {}

type Live = {
  start: () => Actor
  run: Actor
  wakeAt: number
  answer: { value: unknown } | { error: unknown }
  /** A wish that was put off by a pause. */
  held: Wish | undefined
}

/**
 * Runs actors in virtual time, one call after the other, in an order that the seed decides. Faults stop at `calmAt`;
 * then it goes on until `isDone`, and fails when that is not so at `endAt`.
 */
export async function schedule(
  kinds: readonly (() => Actor)[],
  options: {
    random: Random
    faults: Faults
    startAt: number
    calmAt: number
    endAt: number
    setTime(ms: number): void
    isDone(): Promise<boolean>
    /** Looked at after every call that was made. */
    check(): Promise<void>
  },
): Promise<{ calls: number }> {
  const { random, faults } = options
  let now = options.startAt
  let calls = 0
  const born = (start: () => Actor, wakeAt: number): Live => ({
    start,
    run: start(),
    wakeAt,
    answer: { value: undefined },
    held: undefined,
  })
  const live = kinds.map((start) => born(start, now))
  for (;;) {
    live.sort((a, b) => a.wakeAt - b.wakeAt)
    const [one] = live
    if (!one) return { calls }
    now = Math.max(now, one.wakeAt)
    const isCalm = now >= options.calmAt
    if (now >= options.endAt) throw new Error('something is not done, and nothing disturbs it any more')
    const wish = one.held ?? nextWish(one)
    one.held = undefined
    if (!wish) {
      live.shift()
      continue
    }
    if ('sleepMs' in wish) {
      one.wakeAt = now + wish.sleepMs
      one.answer = { value: undefined }
      continue
    }
    calls++
    if (isCalm && calls % 20 === 0 && (await options.isDone())) return { calls }
    const hits = (probability: number): boolean => !isCalm && random.chance(probability)
    if (hits(wish.isLate ? faults.pauseIfLate : faults.pause)) {
      one.held = wish
      one.wakeAt = now + random.whole(...faults.pauseMs)
      continue
    }
    const dies = hits(faults.crash)
    if (dies && random.chance(0.5)) {
      Object.assign(one, born(one.start, now + random.whole(100, 2_000)))
      continue
    }
    if (hits(faults.lostBefore)) one.answer = { error: new PortError(`${wish.port} was not reached`) }
    else {
      options.setTime(now)
      const value = await wish.call()
      await options.check()
      one.answer = hits(faults.lostAfter) ? { error: new PortError(`no answer of ${wish.port}`) } : { value }
    }
    if (dies) Object.assign(one, born(one.start, now + random.whole(100, 2_000)))
    else one.wakeAt = now + random.whole(1, 20)
  }
}

function nextWish(one: Live): Wish | undefined {
  const { value, done } = 'error' in one.answer ? one.run.throw(one.answer.error) : one.run.next(one.answer.value)
  return done ? undefined : value
}
