import { createHmac } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import { z } from 'zod'
import type { S3Login, Store } from './attach.ts'
import { cryptoExtension, haveExtensions } from './extensions.ts'

/** Variables that choose the tenants' lakes; without any of them each is a DuckDB file. */
export const lakeVariables = {
  /** PostgreSQL URL of the database that keeps the catalogs of DuckLakes, as a login that may make roles and schemas. */
  LAKE_CATALOG_URL: z.url({ protocol: /^postgres(ql)?$/ }).optional(),
  /** Where a DuckLake's Parquet files go: a folder that all workers share, or `s3://bucket/prefix`. Default: the tenant's folder. */
  LAKE_DATA: z
    .string()
    .regex(/^(\/|s3:\/\/[^/]+)/, 'an absolute path or s3://bucket/prefix')
    .optional(),
  /** The login of that bucket, `keyId:secret`. */
  LAKE_STORE_LOGIN: z
    .string()
    .regex(/^[^:]+:.+$/, 'keyId:secret')
    .optional(),
  LAKE_STORE_REGION: z.string().default('us-east-1'),
  /** Host and port of an S3 that is not Amazon's, as `https://minio.example:9000`. */
  LAKE_STORE_ENDPOINT: z.url({ protocol: /^https?$/ }).optional(),
  /** A folder of DuckDB's extensions, laid out as its own, or `install` to have DuckDB fetch them. */
  LAKE_EXTENSIONS: z.string().optional(),
}

const lakeEnv = z.object(lakeVariables)

/** Where the tenants' lakes of a deployment stand. */
export type LakeOptions = {
  catalogUrl?: string | undefined
  data?: string | undefined
  s3?: S3Login | undefined
  extensions?: string | undefined
}

/** The options that an environment gives. */
export function lakeOptions(env: z.output<typeof lakeEnv>): LakeOptions {
  const [keyId = '', ...secret] = env.LAKE_STORE_LOGIN?.split(':') ?? []
  const endpoint = env.LAKE_STORE_ENDPOINT === undefined ? undefined : new URL(env.LAKE_STORE_ENDPOINT)
  return {
    catalogUrl: env.LAKE_CATALOG_URL,
    data: env.LAKE_DATA,
    extensions: env.LAKE_EXTENSIONS,
    s3:
      env.LAKE_STORE_LOGIN === undefined
        ? undefined
        : {
            keyId,
            secret: secret.join(':'),
            region: env.LAKE_STORE_REGION,
            endpoint: endpoint?.host,
            useTls: endpoint?.protocol !== 'http:',
          },
  }
}

/** What is wrong with the variables taken together, for `superRefine`. */
export function lakeFaults(env: z.output<typeof lakeEnv>, issues: z.core.$RefinementCtx): void {
  const fault = (path: string, message: string): void => issues.addIssue({ code: 'custom', path: [path], message })
  if (env.LAKE_CATALOG_URL !== undefined && env.LAKE_EXTENSIONS === undefined)
    fault('LAKE_EXTENSIONS', 'required with LAKE_CATALOG_URL')
  if (env.LAKE_DATA?.startsWith('s3://') && env.LAKE_STORE_LOGIN === undefined)
    fault('LAKE_STORE_LOGIN', 'required with LAKE_DATA in S3')
}

/** Whether tenants' lakes are files that are encrypted, each with the key of its tenant. */
export const areFilesEncrypted = async ({ catalogUrl, extensions }: LakeOptions): Promise<boolean> =>
  catalogUrl === undefined && (await haveExtensions(extensions, [cryptoExtension]))

const made = new Map<string, Promise<{ catalog: string; isNew: boolean }>>()

/**
 * Where one tenant's lake stands; `root` is the tenant's own folder, `key` encrypts its file. A DuckLake that is made here
 * is encrypted where the extension for it is. For a DuckLake the tenant gets a role and a schema of its
 * own in the catalog's database, once per process: its process is given that login alone, with which it reaches no other
 * tenant's catalog.
 */
export async function tenantStore(options: LakeOptions, tenantId: string, root: string, key?: string): Promise<Store> {
  const file = join(root, 'lake.duckdb')
  const { catalogUrl, extensions } = options
  if (catalogUrl === undefined) return key === undefined ? { file } : { file, key, extensions }
  let making = made.get(tenantId)
  if (making === undefined) {
    made.set(tenantId, (making = makeCatalog(catalogUrl, tenantId)))
    making.catch(() => made.delete(tenantId))
  }
  const { catalog, isNew } = await making
  const encrypted = isNew && (await haveExtensions(extensions, [cryptoExtension]))
  const data = options.data === undefined ? join(root, 'lake') : `${options.data.replace(/\/+$/, '')}/${tenantId}`
  return { file, extensions, ducklake: { catalog, schema: schemaOf(tenantId), data, s3: options.s3, encrypted } }
}

/** Removes a tenant's role and schema from the catalog's database; nothing when they are not there. */
export async function removeCatalog(catalogUrl: string, tenantId: string): Promise<void> {
  made.delete(tenantId)
  const role = pg.escapeIdentifier(schemaOf(tenantId))
  await asMaker(catalogUrl, async (client) => {
    await client.query(`drop schema if exists ${role} cascade`)
    await client.query(`drop role if exists ${role}`)
  })
}

const schemaOf = (tenantId: string): string => `lake_${tenantId}`
const timeoutMs = 10_000

// Answers the tenant's own URL, and whether no lake is there yet. Every worker comes to the same password, which whoever
// knows the makers' login may know.
async function makeCatalog(catalogUrl: string, tenantId: string): Promise<{ catalog: string; isNew: boolean }> {
  const url = new URL(catalogUrl)
  const name = schemaOf(tenantId)
  const role = pg.escapeIdentifier(name)
  const password = createHmac('sha256', decodeURIComponent(url.password)).update(name).digest('hex')
  let isNew = true
  await asMaker(catalogUrl, async (client) => {
    // Two workers may meet the tenant at the same moment.
    await client.query('begin')
    await client.query(`select pg_advisory_xact_lock(hashtext($1))`, [name])
    const { rowCount } = await client.query('select from pg_roles where rolname = $1', [name])
    if (rowCount === 0) await client.query(`create role ${role}`)
    await client.query(`alter role ${role} login password ${pg.escapeLiteral(password)}`)
    await client.query(`grant ${role} to current_user`)
    await client.query(`create schema if not exists ${role} authorization ${role}`)
    const tables = await client.query('select from pg_tables where schemaname = $1 limit 1', [name])
    isNew = tables.rowCount === 0
    await client.query('commit')
  })
  url.username = encodeURIComponent(name)
  url.password = password
  return { catalog: url.href, isNew }
}

async function asMaker(catalogUrl: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({
    connectionString: catalogUrl,
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
  })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}
