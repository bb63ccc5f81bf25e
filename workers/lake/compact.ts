import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'

// Until then a transaction that began before may still read what is gone.
const readersKeep = `now() - INTERVAL 1 hour`

/** Gives the room of deleted rows back. False when another step works in the lake right now: a later time will do. */
export async function compact(connection: Connection): Promise<boolean> {
  try {
    if (connection.kind === 'ducklake') await compactFiles(connection)
    else await connection.run('CHECKPOINT lake')
    return true
  } catch (error) {
    const cause = error instanceof AppError ? error.cause : error
    if (cause instanceof Error && /other (write )?transactions?|Cannot CHECKPOINT/i.test(cause.message)) return false
    throw error
  }
}

// Every past state that anyone asks for stands in the tables: of the catalog's own only the newest is needed.
async function compactFiles(connection: Connection): Promise<void> {
  // Each by itself: a transaction that puts files together may change nothing else.
  for (const call of [
    `ducklake_flush_inlined_data('lake')`,
    `ducklake_rewrite_data_files('lake', delete_threshold => 0.05)`,
    `ducklake_merge_adjacent_files('lake')`,
  ])
    await connection.transaction(() => connection.rows(`CALL ${call}`))
  await connection.run(`CALL ducklake_expire_snapshots('lake', older_than => ${readersKeep})`)
  await connection.run(`CALL ducklake_cleanup_old_files('lake', older_than => ${readersKeep})`)
}
