import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'

/** Gives the room of deleted rows back. False when another step works in the lake right now: a later time will do. */
export async function compact(connection: Connection): Promise<boolean> {
  try {
    await connection.run('CHECKPOINT lake')
    return true
  } catch (error) {
    const cause = error instanceof AppError ? error.cause : error
    if (cause instanceof Error && /other (write )?transactions?|Cannot CHECKPOINT/i.test(cause.message)) return false
    throw error
  }
}
