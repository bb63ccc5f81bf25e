import type { QueueType } from '../../schema/states.ts'

/** A queue in which something may be claimable. It names no work and holds no secret. */
export type WakeTarget = { tenantId: string; queue: QueueType }

/**
 * "Look now": wakes workers. A wake may be lost, doubled, late or out of order; the rows are the truth and the next
 * tick finds what a lost wake left.
 */
export type Waker = {
  wake(target: WakeTarget): Promise<void>
  /** Calls back at each wake until disposed. */
  listen(callback: (target: WakeTarget) => void): Disposable
}

/** The waker of a single process. */
export function inProcessWaker(): Waker {
  const listeners = new Set<(target: WakeTarget) => void>()
  return {
    wake: async (target) => {
      for (const listener of listeners) listener(target)
    },
    listen: (callback) => {
      listeners.add(callback)
      return { [Symbol.dispose]: () => void listeners.delete(callback) }
    },
  }
}
