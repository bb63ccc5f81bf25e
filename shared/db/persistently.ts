import type { Clock } from '../clock.ts'

const pausesMs = [50, 250]

/** Does `work` again, up to three times in all, as long as `isWorthIt` says so of its error; throws the last one. */
export async function persistently<T>(
  work: () => Promise<T>,
  isWorthIt: (error: unknown) => boolean,
  clock: Pick<Clock, 'sleep'>,
): Promise<T> {
  for (const pauseMs of pausesMs) {
    try {
      return await work()
    } catch (error) {
      if (!isWorthIt(error)) throw error
    }
    // Others fail at the same moment; they shall not all come back at once.
    await clock.sleep(pauseMs * (0.5 + Math.random()))
  }
  return work()
}
