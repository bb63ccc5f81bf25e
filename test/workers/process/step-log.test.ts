import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openLake } from '../../../workers/lake/open.ts'
import type { Binding, Job } from '../../../workers/process/messages.ts'
import { processPool } from '../../../workers/process/pool.ts'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'log-'))
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

test('each attempt is in the lake as it ended, a repeat once, and joins with what it loaded', async () => {
  const limits = { memoryBytes: 512 * 2 ** 20, threads: 1, diskBytes: 2 ** 30 }
  const place = { filesRoot: join(folder, 'files'), workRoot: join(folder, 'work'), limits }
  const lakeFile = join(folder, 'lake.duckdb')
  const tenant = { id: 'a', companyName: 'a', adminEmail: 'a@example.com' }
  const binding: Binding = { tenant, store: { file: lakeFile }, ...place, allowPrivateNetwork: false }
  const job = (key: string, attempt: number, fence: bigint, query: string): Job => ({
    id: `${key} ${attempt}`,
    psType: 'sql.transform',
    run: { id: 'run_1', pipelineId: 'demo/orders', trigger: 'manual', actor: 'usr_1' },
    step: { key, attempt, cycle: 0, fence },
    settings: { query, destination: { table: key } },
    values: {},
    secret: { password: 'canary-secret' },
  })
  const pool = processPool()
  const quiet = { progress: () => undefined, log: () => undefined }
  const run = (job: Job) => pool.run(binding, job, quiet, new AbortController().signal)
  try {
    await expect(run(job('first', 1, 1n, `SELECT error('canary-secret') AS a`))).rejects.toMatchObject({
      code: 'SQL_INVALID',
    })
    await run(job('first', 2, 2n, 'SELECT 1 AS a'))
    await run(job('first', 2, 2n, 'SELECT 1 AS a'))
    await expect(run(job('second', 1, 3n, 'SELECT * FROM nobody'))).rejects.toMatchObject({ code: 'TABLE_MISSING' })
  } finally {
    await pool.close()
  }
  const lake = await openLake({ file: lakeFile, ...place })
  try {
    using connection = await lake.connect(new AbortController().signal)
    const logs = await connection.rows(
      `SELECT step_key, attempt, status, error_code, outputs->>'$.rows' AS rows, ended_at >= started_at AS is_sane
       FROM lake.raw.x_meta_step_logs ORDER BY fence`,
    )
    expect(logs).toEqual([
      { step_key: 'first', attempt: 1, status: 'FAILED', error_code: 'SQL_INVALID', rows: null, is_sane: true },
      { step_key: 'first', attempt: 2, status: 'SUCCEEDED', error_code: null, rows: '1', is_sane: true },
      { step_key: 'second', attempt: 1, status: 'FAILED', error_code: 'TABLE_MISSING', rows: null, is_sane: true },
    ])
    const runs = await connection.rows(
      `SELECT pipeline_id, steps::INTEGER AS steps, steps_succeeded::INTEGER AS done, steps_failed::INTEGER AS failed,
         attempts::INTEGER AS attempts, r.table_name
       FROM lake.raw.x_meta_pipeline_runs JOIN lake.raw.x_meta_load_receipts r USING (run_id)`,
    )
    expect(runs).toEqual([
      { pipeline_id: 'demo/orders', steps: 2, done: 1, failed: 1, attempts: 3, table_name: 'first' },
    ])
    const [text] = await connection.rows(`SELECT string_agg(l::VARCHAR, '') AS all FROM lake.raw.x_meta_step_logs l`)
    expect(text?.['all']).not.toContain('canary-secret')
  } finally {
    await lake.close()
  }
})
