import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'
import type { Attempt } from './receipt.ts'
import { upsert } from './upsert.ts'

/** A file that was fetched: where it was, what it was there, and what it is here. `modifiedAt` in seconds, as the server says. */
export type FetchedFile = { path: string; remotePath: string; bytes: number; modifiedAt: number; sha256: string }

/**
 * Notes for good what an attempt has fetched, in place of what an attempt of the same cycle noted before it.
 * Throws CONFLICT when a newer attempt of the step has noted its files already.
 */
export async function noteDownload(
  connection: Connection,
  attempt: Attempt,
  files: readonly FetchedFile[],
): Promise<void> {
  await connection.transaction(async () => {
    await receiptsOf(connection, attempt)
    const row = {
      run_id: '$1',
      step_key: '$2',
      cycle: '$3::INTEGER',
      fence: '$4::UBIGINT',
      files: '$5',
      completed_at: 'now()',
    }
    const values = [attempt.runId, attempt.stepKey, attempt.cycle, String(attempt.fence), JSON.stringify(files)]
    await upsert(connection, 'x_meta_download_receipts', ['run_id', 'step_key', 'cycle'], row, values)
  })
}

/**
 * What the step has fetched in this cycle, and what it fetched last in an earlier one. Throws CONFLICT when a newer
 * attempt of the step has noted its files already.
 */
export async function findDownload(
  connection: Connection,
  attempt: Attempt,
): Promise<{ now: FetchedFile[] | undefined; before: FetchedFile[] | undefined }> {
  const receipts = await receiptsOf(connection, attempt)
  const now = receipts.find(({ cycle }) => cycle === attempt.cycle)
  const before = receipts.filter(({ cycle }) => cycle < attempt.cycle).at(-1)
  return { now: now?.files, before: before?.files }
}

async function receiptsOf(
  connection: Connection,
  attempt: Attempt,
): Promise<{ cycle: number; files: FetchedFile[] }[]> {
  const rows = await connection.rows(
    `SELECT cycle, fence, files FROM lake.raw.x_meta_download_receipts WHERE run_id = $1 AND step_key = $2 ORDER BY cycle`,
    [attempt.runId, attempt.stepKey],
  )
  if (rows.some(({ fence }) => BigInt(String(fence)) > attempt.fence))
    throw new AppError('CONFLICT', 'A newer attempt of this step has fetched its files already.')
  // The text is what noteDownload wrote.
  return rows.map(({ cycle, files }) => ({ cycle: Number(cycle), files: JSON.parse(String(files)) as FetchedFile[] }))
}
