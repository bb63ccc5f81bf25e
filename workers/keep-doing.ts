import { describeError } from '../shared/log.ts'
import type { Ports } from '../shared/ports.ts'

const silentMs = 60_000

/**
 * Repeats `round` until `stop` aborts, `pause` after each; resolves then. A failure is logged and the next round comes all
 * the same: a database that is away fails every one, so that it is said once a minute, and when it is over.
 */
export async function keepDoing(
  { log }: Pick<Ports, 'log'>,
  name: string,
  stop: AbortSignal,
  round: () => Promise<unknown>,
  pause: () => Promise<void>,
): Promise<void> {
  let failedSaidAt: number | undefined
  while (!stop.aborted) {
    try {
      await round()
      if (failedSaidAt !== undefined) log.info(`${name}.recovered`)
      failedSaidAt = undefined
    } catch (error) {
      const now = performance.now()
      if (!stop.aborted && (failedSaidAt === undefined || now - failedSaidAt >= silentMs)) {
        log.error(`${name}.failed`, { error: describeError(error) })
        failedSaidAt = now
      }
    }
    if (!stop.aborted) await pause()
  }
}
