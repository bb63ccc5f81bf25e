import type { QueueType } from '../../schema/states.ts'

/** A queue in which something may be claimable. It names no work and holds no secret. */
export type WakeTarget = { tenantId: string; queue: QueueType }

/** How a queue stands, for whoever carries wake-ups to it: nobody is to be woken while it is paused. */
export type QueueCourse = WakeTarget & { paused: boolean; maxRunning: number }

/**
 * "Look now": wakes workers. A wake may be lost, doubled, late or out of order; the rows are the truth and the next
 * tick finds what a lost wake left.
 */
export type Waker = {
  /** With `unheld` it is carried past whatever holds back others: for what has been waiting already. */
  wake(target: WakeTarget, how?: { unheld?: boolean }): Promise<void>
  /** Calls back at each wake until disposed. */
  listen(callback: (target: WakeTarget) => void): Disposable
  /** Tells whoever carries the wake-ups how queues stand, so that it holds back what would be in vain. As lossy as a wake. */
  steer?(courses: readonly QueueCourse[]): Promise<void>
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
