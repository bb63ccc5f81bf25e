import { access, link, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { DuckDBConnection } from '@duckdb/node-api'
import { AppError } from '../../shared/errors.ts'
import { lakeError } from './error.ts'
import { literal, quoted } from './names.ts'

// AES-GCM: an altered block does not open. The engine's log of the file is encrypted with it.
const options = (key: string): string => `(ENCRYPTION_KEY ${literal(key)}, ENCRYPTION_CIPHER 'GCM')`

/** Attaches an encrypted DuckDB file, and makes it when it is not there. */
export const attachEncrypted = (file: string, name: string, key: string): string =>
  `ATTACH ${literal(file)} AS ${name} ${options(key)}`

/**
 * Puts an encrypted file in the place of one that is not: copies everything, compares tables, rows, views, macros and
 * indexes, and renames. Nothing when it is encrypted or not there. Killed at any moment, the file is the old one or the
 * new one, whole, and what is left beside it goes at the next call. `connection` has the crypto extension and no database
 * named `lake` or `fresh`. Throws DISK_FULL without room for both, and CONFLICT (retry later) when another process has
 * the file; then it is as it was.
 */
export async function encryptFile(connection: DuckDBConnection, file: string, key: string): Promise<void> {
  if (!(await isPlain(file))) return await removeLeftovers(file)
  // Its log into it, for the file gets a second name, under which the engine looks for another log.
  await run(connection, `ATTACH ${literal(file)} AS lake`, 'CHECKPOINT lake', 'DETACH lake')
  const [plain, fresh] = besideOf(file)
  await removeFile(plain)
  await link(file, plain)
  const { ino } = await stat(plain)
  let isHeld = false
  try {
    if (!(await isPlain(plain))) throw busy()
    // Nobody else opens the file from here on, by whatever name. The name alone may be gone: then the engine makes one.
    await run(connection, `ATTACH ${literal(plain)} AS lake`)
    if ((await inodeOf(plain)) !== ino || (await inodeOf(file)) !== ino || (await isThere(`${file}.wal`))) throw busy()
    isHeld = true
    await removeFile(fresh)
    await run(connection, attachEncrypted(fresh, 'fresh', key), 'COPY FROM DATABASE lake TO fresh', 'CHECKPOINT fresh')
    await compare(connection)
    await run(connection, 'DETACH fresh')
    await flush(fresh)
    if ((await inodeOf(file)) !== ino) throw busy()
    await rename(fresh, file)
    await flush(dirname(file))
  } catch (error) {
    if (isHeld) await run(connection, 'DETACH DATABASE IF EXISTS fresh').catch(() => undefined)
    if (isHeld) await removeFile(fresh)
    throw noRoom(error)
  } finally {
    await run(connection, 'DETACH DATABASE IF EXISTS lake').catch(() => undefined)
    await removeFile(plain)
  }
}

/** Removes what an encryption that was killed has left beside a file. */
export async function removeLeftovers(file: string): Promise<void> {
  for (const path of besideOf(file)) await removeFile(path)
}

const besideOf = (file: string): [plain: string, fresh: string] => [`${file}.plain`, `${file}.encrypting`]

async function removeFile(path: string): Promise<void> {
  for (const each of [path, `${path}.wal`]) await rm(each, { force: true })
}

// A DuckDB file begins with a checksum of 8 bytes, its four letters, the version of its form and its flags, of which the
// first says that it is encrypted.
async function isPlain(file: string): Promise<boolean> {
  const handle = await open(file).catch(() => undefined)
  if (!handle) return false
  try {
    const head = Buffer.alloc(21)
    const { bytesRead } = await handle.read(head, 0, head.length, 0)
    return bytesRead === head.length && head.toString('latin1', 8, 12) === 'DUCK' && (head.readUInt8(20) & 1) === 0
  } finally {
    await handle.close()
  }
}

async function compare(connection: DuckDBConnection): Promise<void> {
  const differing = await rowsOf(connection, differences)
  const tables = await rowsOf(
    connection,
    `SELECT schema_name AS s, table_name AS n FROM duckdb_tables() WHERE database_name = 'lake'`,
  )
  for (const { s, n } of tables) {
    const name = `${quoted(String(s))}.${quoted(String(n))}`
    const [counted] = await rowsOf(
      connection,
      `SELECT (SELECT count(*) FROM lake.${name}) = (SELECT count(*) FROM fresh.${name}) AS same`,
    )
    if (counted?.['same'] !== true) differing.push({ kind: 'rows', name })
  }
  if (differing.length > 0)
    throw new AppError('INTERNAL', "The tenant's tables could not be encrypted.", { context: { differing } })
}

const definitions = `
  SELECT database_name AS d, 'table' AS kind, schema_name AS s, table_name AS name, sql AS text FROM duckdb_tables()
  UNION ALL SELECT database_name, 'view', schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal
  UNION ALL SELECT database_name, 'index', schema_name, index_name, sql FROM duckdb_indexes()
  UNION ALL SELECT database_name, 'macro', schema_name, function_name, concat(parameters::VARCHAR, macro_definition)
    FROM duckdb_functions() WHERE NOT internal`
const differences = `SELECT kind, concat(s, '.', name) AS name FROM (${definitions}) WHERE d IN ('lake', 'fresh')
  GROUP BY kind, s, name, text HAVING count(*) FILTER (d = 'lake') <> count(*) FILTER (d = 'fresh') LIMIT 20`

async function run(connection: DuckDBConnection, ...statements: string[]): Promise<void> {
  for (const statement of statements) await connection.run(statement)
}

const rowsOf = async (connection: DuckDBConnection, sql: string): Promise<Record<string, unknown>[]> =>
  (await connection.runAndReadAll(sql)).getRowObjectsJson()

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

const inodeOf = async (path: string): Promise<number | undefined> => (await stat(path).catch(() => undefined))?.ino

async function flush(path: string): Promise<void> {
  const handle = await open(path)
  await handle.sync().finally(() => handle.close())
}

const busy = (): AppError =>
  new AppError('CONFLICT', "The tenant's tables are in use by another process.", { retry: 'later' })

function noRoom(error: unknown): unknown {
  const { code } = lakeError(error)
  if (code !== 'DISK_FULL') return error
  return new AppError('DISK_FULL', "There is no room to encrypt the tenant's tables: it takes as much again.", {
    cause: error,
  })
}
