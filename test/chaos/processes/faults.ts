import type { Random } from '../simulator/random.ts'

/** Kinds of faults; each comes at least once in a while. */
export const faultKinds = ['kill', 'hold', 'cut', 'restart'] as const
/** A kind of fault. */
export type FaultKind = (typeof faultKinds)[number]

/** A fault: when after the one before it, whom it meets (a share of those that there are), and how long it lasts. */
export type Fault = { kind: FaultKind; afterMs: number; whom: number; ms: number; withTenants: boolean }

const often: readonly FaultKind[] = ['kill', 'kill', 'kill', 'kill', 'hold', 'hold', 'cut', 'cut', 'restart']

/**
 * Faults without end, the same for the same numbers: each kind once, then mostly kills. `holdMs` says beyond what time a
 * worker that stands still has lost its steps.
 */
export function* faults(random: Random, holdMs: number): Generator<Fault, never> {
  const first = faultKinds.map((kind) => ({ kind, order: random.next() })).sort((a, b) => a.order - b.order)
  for (let made = 0; ; made++)
    yield {
      kind: first[made]?.kind ?? random.pick(often),
      afterMs: random.whole(800, 2_600),
      whom: random.next(),
      ms: random.whole(holdMs, 2 * holdMs),
      withTenants: random.chance(0.5),
    }
}
