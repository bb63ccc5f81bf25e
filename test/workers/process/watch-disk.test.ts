import { appendFile, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { watchDisk } from '../../../workers/process/watch-disk.ts'

async function watched(lakeBytes: number): Promise<{ lake: string; scratch: string; overruns: () => number }> {
  const folder = await mkdtemp(join(tmpdir(), 'disk-'))
  const lake = join(folder, 'lake.duckdb')
  const scratch = join(folder, 'work', 'spill')
  await mkdir(scratch, { recursive: true })
  await writeFile(lake, '')
  await truncate(lake, lakeBytes)
  let overruns = 0
  const stop = await watchDisk(
    {
      store: { file: lake },
      workRoot: join(folder, 'work'),
      limits: { memoryBytes: 1, threads: 1, diskBytes: 1000 },
    },
    () => overruns++,
  )
  onTestFinished(async () => {
    stop()
    await rm(folder, { recursive: true })
  })
  return { lake, scratch, overruns: () => overruns }
}

const slack = 64 * 2 ** 20

test.each(['lake', 'log', 'scratch'] as const)('growth of the %s beyond the limit is told once', async (what) => {
  const t = await watched(500)
  const file = { lake: t.lake, log: `${t.lake}.wal`, scratch: join(t.scratch, 'x.tmp') }[what]
  await appendFile(file, '')
  await truncate(file, slack + 2000)
  await expect.poll(t.overruns, { timeout: 5_000 }).toBe(1)
})

test('tables that were over the limit before may still be deleted from', async () => {
  const t = await watched(10 * slack)
  // Long enough for several looks: the scratch beside it is found.
  await expect.poll(t.overruns, { timeout: 1_200 }).toBe(0)
  await truncate(t.lake, 10 * slack + 1000)
  await writeFile(join(t.scratch, 'x.tmp'), '')
  await truncate(join(t.scratch, 'x.tmp'), slack + 2000)
  await expect.poll(t.overruns, { timeout: 5_000 }).toBe(1)
})
