import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { fileOf, loadsOf, rowsPerRun } from './pipelines.ts'

/** A run that must have left its rows and its file. */
export type Landed = { tenantId: string; runId: string; path: string }

/**
 * What lakes and folders of the tenants hold that they must not, or lack, in words. Nobody may have the lakes open. A part
 * of a file that a killed process left is no fault; the next export to that name sweeps it.
 */
export async function brokenLakes(dataDir: string, runs: readonly Landed[]): Promise<string[]> {
  const broken: string[] = []
  for (const [tenantId, mine] of Map.groupBy(runs, (run) => run.tenantId)) {
    const root = join(dataDir, 'tenants', tenantId)
    broken.push(...(await brokenRows(join(root, 'lake.duckdb'), mine)))
    for (const { runId } of mine) {
      const text = await readFile(join(root, 'files', 'out', `${runId}.csv`), 'utf8').catch(() => undefined)
      if (text !== fileOf(runId)) broken.push(`the file of ${runId} holds ${JSON.stringify(text)}`)
    }
    const names = new Set(mine.map(({ runId }) => `${runId}.csv`))
    for (const folder of ['out', 'tmp'])
      for (const name of await readdir(join(root, 'files', folder)).catch(() => []))
        if (!name.includes('.part-') && (folder === 'tmp' || !names.has(name)))
          broken.push(`${tenantId} has a file ${folder}/${name}`)
  }
  return broken
}

async function brokenRows(file: string, runs: readonly Landed[]): Promise<string[]> {
  if (!existsSync(file)) return [`there is no ${file}`]
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  try {
    await connection.run(`ATTACH '${file}' AS lake (READ_ONLY)`)
    const read = async (query: string): Promise<Map<string, string>> =>
      new Map(
        (await (await connection.runAndReadAll(query)).getRows()).map(([key, value]) => [String(key), String(value)]),
      )
    const rows = await read(`SELECT run, string_agg(n::VARCHAR, ' ' ORDER BY n) FROM lake.main.landed GROUP BY run`)
    const receipts = await read(
      `SELECT run_id, count(*) FROM lake.raw.x_meta_load_receipts WHERE step_key IN ('land', 'more') GROUP BY run_id`,
    )
    const wanted = Array.from({ length: rowsPerRun }, (_, n) => n).join(' ')
    const known = new Set(runs.map(({ runId }) => runId))
    return [
      ...runs.flatMap(({ runId, path }) => [
        ...(rows.get(runId) === wanted ? [] : [`${runId} left the rows ${rows.get(runId)}`]),
        ...(receipts.get(runId) === String(loadsOf(path)) ? [] : [`${runId} left ${receipts.get(runId)} receipts`]),
      ]),
      ...[...rows.keys()].filter((run) => !known.has(run)).map((run) => `rows of ${run}, which is no run`),
    ]
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}
