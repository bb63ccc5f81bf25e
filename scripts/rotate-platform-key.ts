import { randomBytes } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { sql } from 'drizzle-orm'
import { edgeEnv } from '../control-plane/env.ts'
import { resignCheckpoint } from '../shared/audit-checkpoint.ts'
import { type Db, rowsOf, type Tx, withTenant } from '../shared/db/db.ts'
import { readEnv } from '../shared/env.ts'
import { AppError } from '../shared/errors.ts'
import { type PlatformKeys, secretBox } from '../shared/secrets/secret-box.ts'
import { signingKeys } from '../shared/secrets/signing-keys.ts'
import { standaloneEnv } from '../standalone/env.ts'
import { lockFolder } from '../standalone/lock.ts'
import { openPglite } from '../standalone/pglite.ts'
import { platformKeysShape } from '../shared/secrets/platform-keys.ts'
import { migrationsFolder, platformKeysFile } from '../standalone/ports.ts'
import { openPg } from '../workers/db/pg.ts'

const help = `Wraps every tenant's data keys with a new platform key; no credential is touched.

  node scripts/rotate-platform-key.ts
      Embedded mode, in TRIBUTARY_DATA_DIR, while nothing else runs there: makes a new key and removes the old one.
  DATABASE_URL=… PLATFORM_KEYS='{"current":"k2","keys":{"k1":"…","k2":"…"}}' node scripts/rotate-platform-key.ts
      PostgreSQL, as the role that ran the migrations. First give PLATFORM_KEYS with both keys to every process, then
      run this, then remove the old key everywhere.
`

const tenantsPerRead = 500

/**
 * Wraps with the current platform key every data key that another one wraps and signs with it where audit logs begin, a transaction for each tenant; safe to
 * repeat and beside running work. Answers how many it wrapped. `db` may become tributary_ledger. Throws
 * SECRET_UNREADABLE when `keys` lacks one that is still in use.
 */
export async function rewrapAllTenants(db: Db, keys: PlatformKeys): Promise<number> {
  const box = secretBox(keys)
  const signing = signingKeys(keys)
  let wrapped = 0
  for (let after = ''; ;) {
    const tenants = await tenantsAfter(db, after)
    for (const tenantId of tenants) {
      wrapped += await withTenant(db, { tenantId, side: 'api' }, (tx) => box.rewrapTenantKeys(tx, tenantId))
      await asLedger(db, (tx) => resignCheckpoint(tx, signing, tenantId))
    }
    const last = tenants.at(-1)
    if (last === undefined) return wrapped
    after = last
  }
}

/**
 * Replaces the platform key of an embedded folder, whose lock the caller holds: the file holds both keys until every data
 * key is wrapped with the new one. A repeat after a crash goes on with the key that was made.
 */
export async function replaceFileKey(db: Db, dataDir: string): Promise<{ current: string; wrapped: number }> {
  const file = platformKeysFile(dataDir)
  const found = platformKeysShape.parse(JSON.parse(readFileSync(file, 'utf8')))
  const isUnfinished = Object.keys(found.keys).length > 1
  const keys = isUnfinished ? found : withNewKey(found)
  if (!isUnfinished) write(file, keys)
  const wrapped = await rewrapAllTenants(db, keys)
  const { current } = keys
  write(file, { current, keys: { [current]: keys.keys[current] ?? '' } })
  return { current, wrapped }
}

function withNewKey({ keys }: PlatformKeys): PlatformKeys {
  let number = Object.keys(keys).length + 1
  while (Object.hasOwn(keys, `k${number}`)) number++
  const current = `k${number}`
  return { current, keys: { ...keys, [current]: randomBytes(32).toString('base64') } }
}

// Whole or not at all: without this file no credential opens any more.
function write(file: string, keys: PlatformKeys): void {
  writeFileSync(`${file}.new`, JSON.stringify(keys), { mode: 0o600, flush: true })
  renameSync(`${file}.new`, file)
}

// The one role that sees the names of all tenants; nobody logs in as it, the owner of the database may become it.
function tenantsAfter(db: Db, after: string): Promise<string[]> {
  return asLedger(db, async (tx) => {
    const rows = await rowsOf<{ id: string }>(
      tx,
      sql`select id from app.tenant where id > ${after} order by id limit ${tenantsPerRead}`,
    )
    return rows.map(({ id }) => id)
  })
}

function asLedger<T>(db: Db, work: (tx: Tx) => Promise<T>): Promise<T> {
  return db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('role', 'tributary_ledger', true)`)
    return work(tx)
  })
}

async function main(): Promise<void> {
  if (process.argv.length > 2) return void process.stdout.write(help)
  if (process.env['DATABASE_URL']) {
    const env = readEnv(edgeEnv.pick({ DATABASE_URL: true, PLATFORM_KEYS: true }), process.env)
    const { db, close } = openPg(env.DATABASE_URL, 1)
    const wrapped = await rewrapAllTenants(db, env.PLATFORM_KEYS).finally(close)
    return console.log(
      `${wrapped} data keys wrapped with ${env.PLATFORM_KEYS.current}; the other platform keys can go.`,
    )
  }
  const dataDir = resolve(readEnv(standaloneEnv, process.env).TRIBUTARY_DATA_DIR)
  using _lock = await lockFolder(dataDir)
  const { db, close } = await openPglite(join(dataDir, 'postgres'), migrationsFolder)
  const { current, wrapped } = await replaceFileKey(db, dataDir).finally(close)
  console.log(`${wrapped} data keys wrapped with ${current}; the key before is gone from ${platformKeysFile(dataDir)}.`)
}

if (import.meta.main)
  await main().catch((error: unknown) => {
    console.error(error instanceof AppError ? `${error.code}: ${error.message}\n${error.hint}` : error)
    process.exitCode = 1
  })
