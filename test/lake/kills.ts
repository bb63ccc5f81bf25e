import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Row } from '../../workers/lake/connection.ts'
import { openLake } from '../../workers/lake/open.ts'
import { lakeStore } from '../support/lake-store.ts'

const rowCount = 8_000

// Ever another snapshot: values change, rows go and come, keys repeat, rows are broken, and columns get other types.
function snapshot(round: number): string {
  const rows = Array.from({ length: rowCount }, (_, i) => {
    const id = i + ((round * 37) % 500)
    const amount = i % 40 === round % 40 ? (round * 1.5 + i).toFixed(round % 12) : String(i)
    return `${id},"note ${i % 90 === round % 90 ? round : 0} of ${i}",${amount}`
  })
  const extra = round % 9 === 4 ? [`7,again,${round}`, 'broken', 'x,no number,1'] : ['7,again,7']
  return ['id,note,amount', ...rows, ...extra, ''].join('\n')
}

type Load = { folder: string; round: number; fence: number; killAfterMs?: number }

// Runs one load in a process of its own; gives what it answered, or undefined when it was killed first.
async function load({ folder, round, fence, killAfterMs }: Load): Promise<{ answer: string | undefined; ms: number }> {
  const script = join(import.meta.dirname, '../support/ingest-child.ts')
  const args = ['--no-warnings', script, folder, `${round}.csv`, String(fence), `run_${round}`, 'evolve']
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  let opened = 0
  let answered = 0
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
    if (opened > 0) {
      answered = performance.now()
      return
    }
    opened = performance.now()
    if (killAfterMs !== undefined) setTimeout(() => child.kill('SIGKILL'), killAfterMs)
  })
  await once(child, 'close')
  return { answer: text.split('\n')[1] || undefined, ms: answered - opened }
}

/**
 * Kills loads at random moments, each once, lets a second attempt finish it, and holds tables, change log, rejected rows,
 * metrics and receipts against those of the same loads undisturbed. Only kills that came before the load had
 * answered are counted.
 */
export async function proveKills(kills: number): Promise<{ kills: number; rounds: number; differences: number }> {
  const folders = await Promise.all(['calm', 'killed'].map((name) => mkdtemp(join(tmpdir(), `${name}-`))))
  const [calm = '', killed = ''] = folders
  try {
    for (const folder of folders) await mkdir(join(folder, 'files'))
    let [done, differences, fence, round] = [0, 0, 0, 0]
    let lastMs = 500
    for (; done < kills && round < 3 * kills; round++) {
      const text = snapshot(round)
      for (const folder of folders) await writeFile(join(folder, 'files', `${round}.csv`), text)
      const wanted = await load({ folder: calm, round, fence: ++fence })
      const first = await load({ folder: killed, round, fence: ++fence, killAfterMs: Math.random() * lastMs })
      if (first.answer === undefined) done++
      const second = await load({ folder: killed, round, fence: ++fence })
      assert.notEqual(wanted.answer, undefined)
      if (second.answer !== wanted.answer) differences++
      lastMs = wanted.ms
      for (const folder of folders) await rm(join(folder, 'files', `${round}.csv`))
    }
    const [a, b] = [await contents(calm), await contents(killed)]
    for (const [name, rows] of Object.entries(a)) {
      if (JSON.stringify(rows) === JSON.stringify(b[name])) continue
      differences++
      console.error(`${name} differs: ${JSON.stringify(rows)} undisturbed, ${JSON.stringify(b[name])} killed`)
    }
    return { kills: done, rounds: round, differences }
  } finally {
    for (const folder of folders) await rm(folder, { recursive: true, force: true })
  }
}

// Everything that a load leaves behind but the moments, names that are drawn, and which attempt it was.
async function contents(folder: string): Promise<Record<string, Row[]>> {
  const limits = { memoryBytes: 1 << 30, threads: 1, diskBytes: 2 ** 30 }
  const place = { filesRoot: join(folder, 'files'), workRoot: join(folder, 'work'), limits }
  const lake = await openLake({ ...lakeStore(folder), ...place })
  try {
    using connection = await lake.connect(new AbortController().signal)
    const digest = (from: string, without: string): Promise<Row[]> =>
      connection.rows(
        `SELECT count(*)::INTEGER AS n, bit_xor(md5_number(r::VARCHAR))::VARCHAR AS digest
         FROM (SELECT * EXCLUDE (${without}) FROM lake.raw.${from}) r`,
      )
    return {
      versions: await digest('orders', 'ingested_at, last_modified, step_attempt'),
      current: await digest('orders_current', 'ingested_at, last_modified, step_attempt'),
      changeLog: await digest('x_meta_change_log', 'changed_at'),
      rejected: await digest('x_meta_rejected_rows', 'rejected_at, rejected_id'),
      metrics: await digest('x_meta_quality_metrics', 'measured_at'),
      receipts: await digest('x_meta_load_receipts', 'fence, completed_at'),
      schema: await digest('x_meta_schema_changes', 'changed_at'),
      head: await digest('x_meta_table_heads', 'loaded_at'),
      twice: await connection.rows(
        `SELECT composite_key FROM lake.raw.orders WHERE is_current GROUP BY 1 HAVING count(*) > 1 LIMIT 3`,
      ),
    }
  } finally {
    await lake.close()
  }
}
