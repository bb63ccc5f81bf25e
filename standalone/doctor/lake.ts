import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describeError } from '../../shared/log.ts'
import { openLake } from '../../workers/lake/open.ts'
import { type Check, fail, ok } from './finding.ts'

const limits = { memoryBytes: 512 * 2 ** 20, threads: 1, diskBytes: 64 * 2 ** 20 }

/** The engine starts and keeps a row in a lake of its own, as it does for a tenant; that lake is gone afterwards. */
export const lake: Check = {
  name: 'lake',
  concerns: ({ dataDir }) => dataDir !== undefined,
  async look(_house, signal) {
    const root = await mkdtemp(join(tmpdir(), 'tributary-doctor-'))
    try {
      const opened = await openLake({
        file: join(root, 'lake.duckdb'),
        filesRoot: join(root, 'files'),
        workRoot: join(root, 'work'),
        limits,
      })
      try {
        using connection = await opened.connect(signal)
        await connection.run('CREATE TABLE lake.main.doctor AS SELECT 1 AS n')
        const [row] = await connection.rows('SELECT n, version() AS version FROM lake.main.doctor')
        return ok(`DuckDB ${String(row?.['version'])} opens, writes and reads one.`)
      } finally {
        await opened.drop()
      }
    } catch (error) {
      return fail(
        `The engine does not start: ${describeError(error)}`,
        'Install again on this machine, for its system and processor: npm ci',
      )
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  },
}
