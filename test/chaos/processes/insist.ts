import { systemClock } from '../../../shared/clock.ts'
import { isDatabaseAway } from '../../../shared/db/away.ts'

/** Asks until it is answered, and not by false: the database is away now and then. Throws what is no absence, and after five minutes. */
export async function insist<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      const answer = await work()
      if (answer !== false) return answer
    } catch (error) {
      if (!isDatabaseAway(error) || tries > 3_000) throw error
    }
    await systemClock.sleep(100)
  }
}

/** Whether it comes to hold within so many milliseconds. */
export async function within(ms: number, holds: () => Promise<boolean>): Promise<boolean> {
  for (const until = performance.now() + ms; performance.now() < until; await systemClock.sleep(200))
    if (await insist(holds).catch(() => false)) return true
  return false
}
