import { setTimeout as wait } from 'node:timers/promises'
import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'

const patienceMs = 10 * 60_000
const askEveryMs = 50

/**
 * Waits until no other transaction writes this lake, and keeps the others waiting until the one that is open has ended: `ask`
 * is for a lock of the catalog's database, which goes with its connection when the process dies. Comes before anything of
 * the lake is read, for a transaction sees the lake as it was when it first looked. At most ten minutes, then it throws
 * CONFLICT (retry later) and has rolled back.
 */
export async function takeTurn(connection: Connection, ask: string, signal: AbortSignal): Promise<void> {
  try {
    for (const until = performance.now() + patienceMs; ;) {
      const [answer] = await connection.rows(ask)
      if (answer?.['taken'] === true) return
      if (performance.now() > until)
        throw new AppError('CONFLICT', 'Another step writes the same lake.', { retry: 'later' })
      await wait(askEveryMs, undefined, { signal })
    }
  } catch (error) {
    await connection.rollback()
    throw error
  }
}
