import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { describeError } from '../../shared/log.ts'
import type { Store } from '../../workers/lake/attach.ts'
import { openLake } from '../../workers/lake/open.ts'
import {
  areFilesEncrypted,
  type LakeOptions,
  lakeOptions,
  lakeVariables,
  removeCatalog,
  tenantStore,
} from '../../workers/lake/tenant-store.ts'
import { type Check, fail, type Finding, ok, skipped, warn } from './finding.ts'
import type { House } from './house.ts'

const limits = { memoryBytes: 512 * 2 ** 20, threads: 1, diskBytes: 64 * 2 ** 20 }

/** The engine starts and keeps a row in a lake of its own, as it does for a tenant; that lake is gone afterwards. */
export const lake: Check = {
  name: 'lake',
  concerns: ({ dataDir }) => dataDir !== undefined,
  async look(house, signal) {
    const root = await mkdtemp(join(tmpdir(), 'tributary-doctor-'))
    try {
      const options = optionsOf(house)
      const key = options && (await areFilesEncrypted(options)) ? randomBytes(32).toString('base64') : undefined
      const inFile = await tryLake(
        { file: join(root, 'lake.duckdb'), key, extensions: options?.extensions },
        root,
        signal,
      )
      if (!options) return [inFile, skipped('Its variables are wrong: see environment.')]
      if (options.catalogUrl !== undefined)
        return [inFile, await tryDuckLake({ ...options, catalogUrl: options.catalogUrl }, root, signal)]
      if (key !== undefined || options.extensions === undefined) return inFile
      return [
        inFile,
        warn(
          'LAKE_EXTENSIONS has nothing for this version of DuckDB that encrypts: lakes are plain files.',
          'Put httpfs into it.',
        ),
      ]
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  },
}

/** The options of the lakes; undefined when their variables are wrong. The embedded mode knows one of them. */
export function optionsOf({ part, variables }: Pick<House, 'part' | 'variables'>): LakeOptions | undefined {
  const given = withoutEmpty(variables)
  const read = z
    .object(lakeVariables)
    .safeParse(part === 'embedded' ? { LAKE_EXTENSIONS: given['LAKE_EXTENSIONS'] } : given)
  return read.success ? lakeOptions(read.data) : undefined
}

async function tryDuckLake(
  options: LakeOptions & { catalogUrl: string },
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
      const isEncrypted = store.key !== undefined || store.ducklake?.encrypted === true
      return ok(`${kind} ${String(row?.['version'])} opens, writes and reads one${isEncrypted ? ', encrypted' : ''}.`)
    } finally {
      await opened.drop()
    }
  } catch (error) {
    if (store.ducklake)
      return fail(`No DuckLake can be opened: ${describeError(error)}`, error instanceof AppError ? error.hint : todo)
    if (store.key !== undefined)
      return fail(`No lake can be encrypted: ${describeError(error)}`, error instanceof AppError ? error.hint : todo)
    return fail(`The engine does not start: ${describeError(error)}`, todo)
  }
}

const todo = 'Install again on this machine, for its system and processor: npm ci'

const withoutEmpty = (variables: Readonly<Record<string, string | undefined>>): Record<string, string | undefined> =>
  Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, value || undefined]))
