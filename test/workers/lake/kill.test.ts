import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openLake } from '../../../workers/lake/open.ts'
import { lakeStore } from '../../support/lake-store.ts'

// Starts a load in its own process and kills it so many milliseconds after the lake is open; gives what it printed.
async function load(folder: string, path: string, fence: number, killAfterMs?: number): Promise<string> {
  const script = join(import.meta.dirname, '../../support/ingest-child.ts')
  const child = spawn(process.execPath, ['--no-warnings', script, folder, path, String(fence)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
    if (killAfterMs !== undefined && text === 'open\n') setTimeout(() => child.kill('SIGKILL'), killAfterMs)
  })
  await once(child, 'close')
  return text.split('\n')[1] ?? ''
}

test('a load that is killed at any moment and runs again ends in the same rows and the same answer', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kill-'))
  try {
    await mkdir(join(folder, 'files'), { recursive: true })
    const rows = Array.from({ length: 60_000 }, (_, i) => `${i % 59_990},"note ${i}",${i * 1.5}`)
    await writeFile(join(folder, 'files', 'in.csv'), ['id,note,amount', ...rows, 'x,y'].join('\n'))
    let fence = 0
    for (const killAfterMs of [10, 60, 150, 300, 450]) await load(folder, 'in.csv', ++fence, killAfterMs)
    const first = JSON.parse(await load(folder, 'in.csv', ++fence))
    expect(first).toMatchObject({ rows: 59_990, rejected: 11, inserted: 59_990 })
    expect(JSON.parse(await load(folder, 'in.csv', ++fence))).toEqual(first)
    const limits = { memoryBytes: 1 << 29, threads: 1, diskBytes: 2 ** 30 }
    const place = { filesRoot: join(folder, 'files'), workRoot: join(folder, 'work'), limits }
    const lake = await openLake({ ...lakeStore(folder), ...place })
    try {
      using connection = await lake.connect(new AbortController().signal)
      const [counts] = await connection.rows(
        `SELECT (SELECT count(*) FROM lake.raw.orders)::INTEGER AS versions, (SELECT count(*) FROM lake.main.orders)::INTEGER AS current,
          (SELECT count(*) FROM lake.raw.x_meta_rejected_rows)::INTEGER AS rejected, (SELECT count(*) FROM lake.raw.x_meta_load_receipts)::INTEGER AS receipts`,
      )
      expect(counts).toEqual({ versions: 59_990, current: 59_990, rejected: 11, receipts: 1 })
    } finally {
      await lake.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
