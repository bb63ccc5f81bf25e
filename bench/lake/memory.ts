import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AppError } from '../../shared/errors.ts'
import { engineShare } from '../../workers/lake/open.ts'
import { result } from '../result.ts'
import { startPlatform } from './platform.ts'

const gib = 2 ** 30
// Of ten million rows; fewer get as much less, but what the engine's buffers and Node need at least.
const wholeRows = 10_000_000
const engineLeast = gib / 4
const processLeast = gib
// Address space that Node keeps for code: the operating system's limit counts it, although nothing stands there.
const untouched = gib / 2

/**
 * Loads the first snapshot and the one with 10 % changed with 1 GiB for the engine and 2 GiB of data memory for its
 * process (for ten million rows, in proportion for fewer), which it does by spilling; then one more with hardly any disk to spill to, which has to end with an error that
 * names what ran out, and to leave the table as it was.
 */
export async function boundMemory(folder: string, rows: number): Promise<boolean> {
  const label = `lake.memory.${rows / 1e6}M`
  const engineBytes = Math.max(engineLeast, (gib * rows) / wholeRows)
  const processBytes = Math.max(processLeast, (2 * gib * rows) / wholeRows)
  const work = await mkdtemp(join(tmpdir(), 'bench-lake-memory-'))
  const limits = { memoryBytes: Math.ceil(engineBytes / engineShare), threads: 2, diskBytes: 64 * gib }
  try {
    const wide = await startPlatform(folder, work, {
      limits,
      files: ['initial', 'delta-10', 'delta-1'],
      dataBytes: processBytes + untouched,
    })
    let peak = 0
    try {
      for (const snapshot of ['initial', 'delta-10'] as const) {
        const { seconds, counts } = await wide.load(snapshot)
        peak = await wide.peakBytes()
        console.log(`${label} ${snapshot}: ${seconds.toFixed(1)} s, ${JSON.stringify(counts)}`)
      }
    } finally {
      await wide.close()
    }
    const isSmall = result(`${label}.peak-rss`, peak / 2 ** 20, 'MiB', { op: '<=', value: processBytes / 2 ** 20 })
    const error = await refusal(folder, work)
    console.log(`${label} without room: ${error ? `${error.code}: ${error.message}` : 'no error'}`)
    const isClear = result(`${label}.clear-error`, isExpected(error) ? 1 : 0, 'error', { op: '>=', value: 1 })
    const after = await startPlatform(folder, work, {
      limits,
      files: ['delta-10'],
      dataBytes: processBytes + untouched,
    })
    try {
      const { counts } = await after.load('delta-10')
      const written = counts.inserted + counts.updated + counts.deleted
      return result(`${label}.written-by-refused`, written, 'rows', { op: '<=', value: 0 }) && isSmall && isClear
    } finally {
      await after.close()
    }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

const isExpected = (error: AppError | undefined): boolean =>
  error?.code === 'MEMORY_EXCEEDED' || error?.code === 'DISK_FULL'

async function refusal(folder: string, work: string): Promise<AppError | undefined> {
  const limits = { memoryBytes: 256 * 2 ** 20, threads: 2, diskBytes: 2 ** 20 }
  const narrow = await startPlatform(folder, work, { limits, files: ['delta-1'] })
  try {
    await narrow.load('delta-1')
    return undefined
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  } finally {
    await narrow.close()
  }
}
