import { mkdtemp, mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { withLedger } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { processPool } from '../../workers/process/pool.ts'
import { answerRead } from '../../workers/reader/answer-read.ts'
import { type Reader, serveReads } from '../../workers/reader/serve-reads.ts'
import ingest from '../../workers/processors/file/ingest.ts'
import transform from '../../workers/processors/sql/transform.ts'
import type { ControlPlane } from '../support/control-plane.ts'
import { tenant } from '../support/step-context.ts'

const seenEveryMs = 5_000

/** A tenant whose lake holds what is marked as its own: names of tables and columns, keys and values. */
export type Marked = { id: string; mark: string }

/**
 * Gives each tenant a lake with tables, versions, measurements and lineage, and a worker's door that reads them as every
 * worker does; it says that it is here as long as the estate stands.
 */
export async function openLakes(plane: ControlPlane, houses: readonly Marked[]): Promise<AsyncDisposable> {
  const dataDir = await mkdtemp(join(tmpdir(), 'estate-'))
  for (const house of houses) await fill(join(dataDir, 'tenants', house.id), house)
  const id = newId('worker')
  const pool = processPool()
  const options = { worker: id, dataDir, lake: {}, allowPrivateNetwork: false, leaseMs: 30_000 }
  const { ports } = plane
  const reader: Reader = { id, read: (read, signal) => answerRead(ports, pool, read, options, signal) }
  const door = await serveReads(() => reader, { host: '127.0.0.1', port: 0, ports })
  const seen = JSON.stringify({
    id,
    host: 'reader',
    pid: 1,
    queues: [],
    tenants: null,
    capacity: 1,
    running: 0,
    draining: false,
  })
  const tell = async (): Promise<void> =>
    withLedger(ports.db, 'worker', async (tx) => {
      await tx.execute(sql`select app.see_worker(${seen}::jsonb)`)
      await tx.execute(sql`select app.offer_reader(${id}, ${door.url}, null)`)
    })
  await tell()
  let telling = Promise.resolve()
  const timer = setInterval(() => (telling = tell().catch(() => undefined)), seenEveryMs)
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer)
      await telling
      await door.stop()
      await pool.close()
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}

async function fill(folder: string, { id, mark }: Marked): Promise<void> {
  await mkdir(folder, { recursive: true })
  await using house = await tenant({ id, folder })
  const load = async (rows: readonly string[]): Promise<void> => {
    await house.write(
      `${mark}.csv`,
      `id,${mark}_word,n\n${rows.map((row, n) => `${n},${mark}_${row},${n}`).join('\n')}\n`,
    )
    const destination = { table: `${mark}_orders`, business_key: ['id'] }
    await house.run(ingest, { source: { path: `${mark}.csv` }, destination })
  }
  await load(['one', 'two', 'three'])
  await load(['uno', 'due', 'three', 'four'])
  await load(['eins', 'zwei', 'drei'])
  for (const name of ['a_sums', 'a_words'])
    await house.run(transform, {
      query: `SELECT id, ${mark}_word, n + 1 AS more FROM ${mark}_orders`,
      destination: { table: `${mark}_${name}`, mode: 'replace' },
    })
}
