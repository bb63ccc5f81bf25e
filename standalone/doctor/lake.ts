import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { describeError } from '../../shared/log.ts'
import type { Store } from '../../workers/lake/attach.ts'
import { openLake } from '../../workers/lake/open.ts'
import { lakeOptions, lakeVariables, removeCatalog, tenantStore } from '../../workers/lake/tenant-store.ts'
import { type Check, fail, type Finding, ok, skipped } from './finding.ts'

const limits = { memoryBytes: 512 * 2 ** 20, threads: 1, diskBytes: 64 * 2 ** 20 }

/** The engine starts and keeps a row in a lake of its own, as it does for a tenant; that lake is gone afterwards. */
export const lake: Check = {
  name: 'lake',
  concerns: ({ dataDir }) => dataDir !== undefined,
  async look({ part, variables }, signal) {
    const root = await mkdtemp(join(tmpdir(), 'tributary-doctor-'))
    try {
      const inFile = await tryLake({ file: join(root, 'lake.duckdb') }, root, signal)
      const read = z.object(lakeVariables).safeParse(part === 'embedded' ? {} : withoutEmpty(variables))
      if (!read.success) return [inFile, skipped('Its variables are wrong: see environment.')]
      const options = lakeOptions(read.data)
      if (options.catalogUrl === undefined) return inFile
      return [inFile, await tryDuckLake({ ...options, catalogUrl: options.catalogUrl }, root, signal)]
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  },
}

async function tryDuckLake(
  options: ReturnType<typeof lakeOptions> & { catalogUrl: string },
  root: string,
  signal: AbortSignal,
): Promise<Finding> {
  const tenantId = `doctor_${randomUUID().slice(0, 8)}`
  try {
    const store = await tenantStore(options, tenantId, join(root, 'ducklake'))
    return await tryLake(store, root, signal)
  } catch (error) {
    return fail(
      `The catalog of the DuckLakes cannot be used: ${describeError(error)}`,
      'Give LAKE_CATALOG_URL a login that may make roles and schemas in its database.',
    )
  } finally {
    await removeCatalog(options.catalogUrl, tenantId).catch(() => undefined)
  }
}

async function tryLake(store: Store, root: string, signal: AbortSignal): Promise<Finding> {
  const kind = store.ducklake ? 'DuckLake' : 'DuckDB'
  try {
    const opened = await openLake({ ...store, filesRoot: join(root, 'files'), workRoot: join(root, 'work'), limits })
    try {
      using connection = await opened.connect(signal)
      await connection.run('CREATE TABLE lake.main.doctor AS SELECT 1 AS n')
      const [row] = await connection.rows('SELECT n, version() AS version FROM lake.main.doctor')
      return ok(`${kind} ${String(row?.['version'])} opens, writes and reads one.`)
    } finally {
      await opened.drop()
    }
  } catch (error) {
    if (store.ducklake)
      return fail(`No DuckLake can be opened: ${describeError(error)}`, error instanceof AppError ? error.hint : todo)
    return fail(`The engine does not start: ${describeError(error)}`, todo)
  }
}

const todo = 'Install again on this machine, for its system and processor: npm ci'

const withoutEmpty = (variables: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> =>
  Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, value || undefined]))
