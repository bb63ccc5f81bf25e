import { mkdir, realpath, rm } from 'node:fs/promises'
import { DuckDBInstance } from '@duckdb/node-api'
import { AppError } from '../../shared/errors.ts'
import { throwIfAborted } from '../aborted.ts'
import type { ProcessLimits } from '../define.ts'
import { attachmentOf, type Store } from './attach.ts'
import { type Connection, wrapConnection } from './connection.ts'
import { lakeError } from './error.ts'
import { ensureMeta } from './meta.ts'
import { literal } from './names.ts'

/**
 * A tenant's tables, attached `AS lake`: one DuckDB file, or a DuckLake.
 *
 * - `lake.raw.<t>` keeps every version of every row of a versioned table, `lake.raw.<t>_current` those that are current
 *   and not deleted, with all columns.
 * - `lake.main.<t>` is what tenant SQL finds as `<t>`: for a versioned table a view of the current rows with the
 *   business columns only, else (modes append and replace, results of `sql.transform`) a plain table.
 * - `lake.raw.x_meta_*` hold receipts, rejected rows, quality metrics and the change log.
 */
export type Lake = {
  /** A connection for our own SQL, which names every table in full. The signal interrupts it. */
  connect(signal: AbortSignal): Promise<Connection>
  /**
   * A connection for SQL of the tenant: names are looked up in `lake.main`, then `lake.raw`. What runs on it must have
   * passed `checkStatement`.
   */
  connectForTenant(signal: AbortSignal): Promise<Connection>
  /** Writes the log into the file and closes it. Open connections are closed. Safe to call twice. */
  close(): Promise<void>
  /** Closes it and removes its file and what it spilled. Safe to call twice. */
  drop(): Promise<void>
}

/** Where a lake and the files it may touch stand. All folders belong to one tenant. */
export type LakePlace = Store & {
  /** The tenant's folder. */
  filesRoot: string
  /** Scratch space of the tenant's process; DuckDB spills into `spill` below it. */
  workRoot: string
  limits: ProcessLimits
}

/**
 * How much of the process's memory DuckDB may use. It counts only what its buffer manager holds; Node, results and
 * allocator slack came to 0.45 GB above a limit of 1 GB.
 */
export const engineShare = 0.6

// A commit writes its rows into the log; it is put into the file when it is longer than this, or when the lake is closed.
// The engine's own 16 MiB made a load of 100,000 rows write them twice before it ended.
const logMaxMiB = 128

/**
 * Opens a tenant's lake and makes it when it is not there. DuckDB gets 60 % of the process's memory, spills up to
 * `diskBytes`, reaches no network and no file outside `filesRoot` and `workRoot`, and no later statement can change that.
 * Rows of a table and of a file keep their order, which costs a load nothing that could be measured: the number of a row is
 * its place. With a key, a file that is not encrypted is first. Throws CONFLICT (retry later) when another process has
 * the file, DISK_FULL, or INTERNAL.
 */
export async function openLake(place: LakePlace): Promise<Lake> {
  const spill = `${place.workRoot}/spill`
  const attachment = await attachmentOf(place)
  await Promise.all([
    mkdir(place.filesRoot, { recursive: true, mode: 0o700 }),
    mkdir(spill, { recursive: true, mode: 0o700 }),
  ])
  const [files, work] = await Promise.all([realpath(place.filesRoot), realpath(place.workRoot)])
  const memoryMiB = Math.max(128, Math.floor((place.limits.memoryBytes * engineShare) / 2 ** 20))
  const instance = await DuckDBInstance.create(':memory:', {
    threads: String(place.limits.threads),
    memory_limit: `${memoryMiB}MiB`,
    preserve_insertion_order: 'true',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    allow_community_extensions: 'false',
  })
  const open = new Set<Connection>()
  try {
    const first = await instance.connect()
    // ATTACH and the folders come before the door closes; the lock comes last.
    for (const setting of [
      `SET temp_directory = ${literal(spill)}`,
      `SET max_temp_directory_size = '${Math.max(1, Math.floor(place.limits.diskBytes / 2 ** 20))}MiB'`,
      `SET TimeZone = 'UTC'`,
      `SET checkpoint_threshold = '${logMaxMiB}MiB'`,
      ...attachment.load,
    ])
      await first.run(setting)
    await attachment.prepare?.(first)
    const settings = [
      ...attachment.open,
      `SET allowed_directories = [${[`${files}/`, `${work}/`, ...attachment.folders].map(literal).join(', ')}]`,
      `SET enable_external_access = false`,
      `SET lock_configuration = true`,
    ]
    for (const setting of settings) await first.run(setting)
    await ensureMeta(wrapConnection(first, attachment, new AbortController().signal, () => {}))
    first.closeSync()
  } catch (error) {
    instance.closeSync()
    throw openError(error, place)
  }

  let closed = false
  async function connect(signal: AbortSignal): Promise<Connection> {
    throwIfAborted(signal)
    if (closed) throw new AppError('UNAVAILABLE', "The tenant's tables are being closed.")
    const connection = wrapConnection(await instance.connect(), attachment, signal, () => open.delete(connection))
    open.add(connection)
    return connection
  }

  async function leave(finish: (last: Connection) => Promise<void>): Promise<void> {
    if (closed) return
    closed = true
    for (const connection of open) connection.close()
    const last = await instance.connect()
    try {
      await finish(wrapConnection(last, attachment, new AbortController().signal, () => {}))
      await last.run('DETACH lake')
    } finally {
      last.closeSync()
      instance.closeSync()
    }
  }

  const lake: Lake = {
    connect,
    async connectForTenant(signal) {
      const connection = await connect(signal)
      await connection.run(`SET search_path = 'lake.main,lake.raw'`)
      return connection
    },
    close: () => leave(attachment.leave),
    async drop() {
      await leave(attachment.empty)
      await attachment.remove()
      await rm(spill, { recursive: true, force: true })
    },
  }
  return lake
}

function openError(error: unknown, { ducklake, key }: Store): AppError {
  if (error instanceof AppError) return error
  const { text, cause } = withoutSecrets(error, [ducklake?.catalog, ducklake?.s3?.secret, key])
  if (/Could not set lock|already (open|attached)/i.test(text))
    return new AppError('CONFLICT', "The tenant's tables are in use by another process.", {
      retry: 'later',
      cause,
    })
  if (/encrypted database|encryption key|is not encrypted/i.test(text))
    return new AppError(
      'CONFLICT',
      "The tenant's tables are encrypted, and are opened without their key or its engine.",
      {
        retry: 'never',
        hint: 'Set LAKE_EXTENSIONS, so that DuckDB finds its extension httpfs.',
        cause,
      },
    )
  return lakeError(cause)
}

// The engine repeats in full what it could not connect to.
function withoutSecrets(error: unknown, secrets: (string | undefined)[]): { text: string; cause: Error } {
  let text = error instanceof Error ? error.message : String(error)
  for (const secret of secrets) if (secret) text = text.replaceAll(secret, '<secret>')
  return { text, cause: new Error(text) }
}
