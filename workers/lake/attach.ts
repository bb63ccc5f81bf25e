import { mkdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { DuckDBConnection } from '@duckdb/node-api'
import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'
import { attachEncrypted, encryptFile, removeLeftovers } from './encrypt-file.ts'
import { cryptoExtension, type Extensions, extensionsOf, haveExtensions } from './extensions.ts'
import { literal } from './names.ts'

/** Which lake a connection works on. Both take the same SQL; where they differ, `differ.ts` knows. */
export type LakeKind = 'duckdb' | 'ducklake'

/** A lake whose catalog is a schema of a PostgreSQL database and whose rows are Parquet files. */
export type DuckLake = {
  /** PostgreSQL URL of the catalog's database, as a login that owns `schema` and sees no other tenant's. */
  catalog: string
  schema: string
  /** An absolute folder, or `s3://bucket/prefix`. One tenant's alone. */
  data: string
  s3?: S3Login | undefined
  /** Whether its Parquet files are encrypted when it is made now; their keys stand in the catalog. One that is there stays as it is. */
  encrypted?: boolean | undefined
}

/** What opens an S3 bucket. `endpoint` is host and port of a server that is not Amazon's. */
export type S3Login = { keyId: string; secret: string; region: string; endpoint?: string | undefined; useTls: boolean }

/** Where a tenant's tables stand: in one DuckDB file, unless `ducklake` says otherwise. */
export type Store = {
  file: string
  /** Opens an encrypted file, makes a new one encrypted, and encrypts one that is not. Needs DuckDB's crypto extension. */
  key?: string | undefined
  ducklake?: DuckLake | undefined
  /** Where DuckDB's own extensions are found: a folder laid out as its own, or `install` to fetch them from duckdb.org. */
  extensions?: Extensions | undefined
}

/** How a store is attached and given up. */
export type Attachment = {
  kind: LakeKind
  /** Statements that load what it needs. */
  load: string[]
  /** What goes before it is attached, when that is loaded. */
  prepare?(connection: DuckDBConnection): Promise<void>
  /** Statements that make it `lake`, before the engine's door is closed. */
  open: string[]
  /** Folders, with a slash at their end, that the engine itself reads and writes. */
  folders: string[]
  /** Answers `taken`: whether the open transaction is now the one that may write. Without it nobody has to ask. */
  turn?: string
  /** What goes before the lake is left: the log into the file. */
  leave(connection: Connection): Promise<void>
  /** Removes everything; `connection` is the last one, and the lake is still attached. */
  empty(connection: Connection): Promise<void>
  /** Removes what lies on disk, when the lake is closed. */
  remove(): Promise<void>
}

// The engine does not do it by itself for a database that is encrypted.
const encryptSpill = 'SET temp_file_encryption = true'

// The catalog's own database beside `lake`, as the extension names it.
const catalogOfLake = '__ducklake_metadata_lake'

/** How the store of a tenant is attached. Throws CONFIG_INVALID when it needs an extension and there is none. */
export async function attachmentOf(store: Store): Promise<Attachment> {
  return store.ducklake ? await duckLake(store, store.ducklake) : await duckFile(store)
}

async function duckFile({ file, key, extensions }: Store): Promise<Attachment> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  return {
    kind: 'duckdb',
    ...(key === undefined
      ? { load: [], open: [`ATTACH ${literal(file)} AS lake`] }
      : {
          load: [...(await extensionsOf(extensions, [cryptoExtension])), encryptSpill],
          prepare: (connection) => encryptFile(connection, file, key),
          open: [attachEncrypted(file, 'lake', key)],
        }),
    folders: [],
    leave: async (connection) => void (await connection.run('CHECKPOINT lake')),
    empty: async () => {},
    remove: async () => {
      for (const path of [file, `${file}.wal`]) await rm(path, { force: true })
      await removeLeftovers(file)
    },
  }
}

async function duckLake({ extensions }: Store, lake: DuckLake): Promise<Attachment> {
  const isRemote = lake.data.startsWith('s3://')
  if (isRemote && !lake.s3) throw new AppError('CONFIG_INVALID', 'The lake is in S3, and there is no login for it.')
  const data = lake.data.endsWith('/') ? lake.data : `${lake.data}/`
  if (!isRemote) await mkdir(data, { recursive: true, mode: 0o700 })
  const hasCrypto = await haveExtensions(extensions, [cryptoExtension])
  const needed = ['postgres_scanner', 'ducklake', ...(isRemote || lake.encrypted || hasCrypto ? [cryptoExtension] : [])]
  const options = [
    `DATA_PATH ${literal(data)}`,
    `METADATA_SCHEMA ${literal(lake.schema)}`,
    ...(lake.encrypted ? ['ENCRYPTED'] : []),
  ]
  return {
    kind: 'ducklake',
    load: [...(await extensionsOf(extensions, needed)), ...(hasCrypto ? [encryptSpill] : [])],
    open: [
      ...(isRemote && lake.s3 ? [secretOf(lake.s3, data)] : []),
      `ATTACH ${literal(`ducklake:postgres:${lake.catalog}`)} AS lake (${options.join(', ')})`,
    ],
    folders: [data],
    turn: `SELECT taken FROM postgres_query(${literal(catalogOfLake)}, ${literal(lockOf(lake.schema))})`,
    leave: async () => {},
    async empty(connection) {
      // Files first, by the catalog that knows them: in S3 nothing else does.
      await connection.run(`DROP SCHEMA lake.raw CASCADE`)
      const rest = await connection.rows(
        `SELECT table_name AS name, 'TABLE' AS kind FROM duckdb_tables() WHERE database_name = 'lake'
         UNION ALL SELECT view_name, 'VIEW' FROM duckdb_views() WHERE database_name = 'lake'`,
      )
      for (const { name, kind } of rest)
        await connection.run(`DROP ${String(kind)} IF EXISTS lake.main."${String(name).replaceAll('"', '""')}"`)
      await connection.run(`CALL ducklake_expire_snapshots('lake', older_than => now())`)
      await connection.run(`CALL ducklake_cleanup_old_files('lake', cleanup_all => true)`)
      const drop = `DROP SCHEMA "${lake.schema.replaceAll('"', '""')}" CASCADE`
      await connection.run(`CALL postgres_execute(${literal(catalogOfLake)}, ${literal(drop)})`)
    },
    remove: async () => {
      if (!isRemote) await rm(join(data), { recursive: true, force: true })
    },
  }
}

// Any number that nothing else in the catalog's database takes; the schema beside it tells the lakes apart.
const lockOf = (schema: string): string =>
  `SELECT pg_try_advisory_xact_lock(7418529, hashtext(${literal(schema)})) AS taken`

function secretOf(s3: S3Login, scope: string): string {
  const parts = [
    'TYPE s3',
    `KEY_ID ${literal(s3.keyId)}`,
    `SECRET ${literal(s3.secret)}`,
    `REGION ${literal(s3.region)}`,
    ...(s3.endpoint === undefined ? [] : [`ENDPOINT ${literal(s3.endpoint)}`, `URL_STYLE 'path'`]),
    `USE_SSL ${s3.useTls}`,
    `SCOPE ${literal(scope)}`,
  ]
  return `CREATE SECRET lake_s3 (${parts.join(', ')})`
}
