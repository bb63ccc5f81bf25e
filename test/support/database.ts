import { randomBytes } from 'node:crypto'
import { openAsBlob } from 'node:fs'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { type SQL, sql } from 'drizzle-orm'
import { limitsOf, queueLimitOf, tenantConfiguration } from '../../schema/config/tenant.ts'
import { queueTypes, runTransitions, stepTransitions } from '../../schema/states.ts'
import { pipeline, pipelineVersion, tenant, tenantLimit, tenantQueue } from '../../schema/tables/index.ts'
import { type Db, rowsOf, withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { openPglite, overPglite } from '../../standalone/pglite.ts'
import { finds } from '../canaries/needles.ts'
import { isSwept, keepBytes } from './keep.ts'
import { templateVariable } from './template.ts'

/** A migrated database in memory, for one test file; what is in it at the end is kept where tests are swept. */
export async function memoryDatabase(): Promise<{ db: Db; close(): Promise<void> }> {
  const { db, close } = await openMemory()
  return { db, close: () => keepDatabase(db).then(close) }
}

/** The same, and nothing is kept. */
export async function openMemory(): Promise<{ db: Db; close(): Promise<void> }> {
  const folder = process.env[templateVariable]
  if (folder === undefined) return openPglite(undefined, migrationsFolder)
  const tar = await openAsBlob(join(folder, 'cluster.tar'))
  return overPglite(await PGlite.create({ loadDataDir: tar }), migrationsFolder)
}

/** An active tenant with queues, limits and one pipeline, written as onboarding would leave it. */
export async function makeTenant(
  db: Db,
  limits: Partial<typeof tenantLimit.$inferInsert> = {},
): Promise<{ tenantId: string; pipelineId: string }> {
  const tenantId = `t_${randomBytes(6).toString('hex')}`
  const pipelineId = newId('pipeline')
  await withTenant(db, { tenantId, side: 'api' }, async (tx) => {
    await tx.insert(tenant).values({
      id: tenantId,
      name: tenantId,
      companyName: `${tenantId} Ltd`,
      adminEmail: 'admin@example.com',
      plan: 'SCALE',
      status: 'active',
      configuration: tenantConfiguration.parse({}),
    })
    await tx.insert(tenantLimit).values({ tenantId, ...limitsOf('SCALE'), ...limits })
    await tx
      .insert(tenantQueue)
      .values(queueTypes.map((queue) => ({ tenantId, queue, maxRunning: queueLimitOf('SCALE') })))
    await tx
      .insert(pipeline)
      .values({ tenantId, id: pipelineId, path: 'test/unit/any', origin: 'tenant', currentVersion: 1 })
    await tx.insert(pipelineVersion).values({
      tenantId,
      pipelineId,
      version: 1,
      yaml: 'pipeline_id: any\nsteps: []\n',
      sha256: 'none',
      createdBy: 'test',
    })
  })
  return { tenantId, pipelineId }
}

/**
 * Makes the database refuse every change of state that `schema/states.ts` does not list. The database's owner does it, so
 * that whatever the ledger's functions do in a test is judged by the list.
 */
export async function refuseOtherTransitions(db: Db): Promise<void> {
  const lists = { pipeline_run: runTransitions, run_step: stepTransitions }
  for (const [table, list] of Object.entries(lists)) {
    const allowed = list.map(({ from, to }) => `'${from} ${to}'`).join(', ')
    await db.execute(
      sql.raw(`create function app.judge_${table}() returns trigger language plpgsql as $$ begin
        if old.state <> new.state and not (old.state || ' ' || new.state) = any (array[${allowed}]) then
          raise exception 'the state of % went from % to %', tg_table_name, old.state, new.state;
        end if;
        return new;
      end $$`),
    )
    await db.execute(
      sql.raw(`create trigger judge before update on app.${table} for each row execute function app.judge_${table}()`),
    )
  }
}

/** Moves every running step's lease into the past, as if its worker had been silent. No side of the product can. */
export async function expireLeases(db: Db): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('role', 'tributary_ledger', true)`)
    await tx.execute(
      sql`update app.run_step set lease_until = clock_timestamp() - interval '1 second' where state = 'running'`,
    )
  })
}

/** Every row of every table, as text: what a dump of the database holds. */
export async function dumpOf(db: Db): Promise<string> {
  const tables = await rowsOf<{ name: string }>(
    db,
    sql`select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = 'app' order by 1`,
  )
  const texts: string[] = []
  for (const { name } of tables) {
    const [row] = await rowsOf<{ text: string | null }>(
      db,
      sql`select string_agg(t::text, chr(10)) as text from ${sql.raw(name)} t`,
    )
    texts.push(`${name}\n${row?.text ?? ''}`)
  }
  return texts.join('\n')
}

/**
 * Keeps a database for a sweep, if there is one, before it is closed: every row as text and, where that holds more than the
 * rows do, the bytes of its files, with what was deleted and the log of what was written.
 */
export async function keepDatabase(db: Db): Promise<void> {
  if (!isSwept) return
  await keepBytes('databases', 'txt', Buffer.from(await dumpOf(db)))
  const client: unknown = '$client' in db ? db.$client : undefined
  if (!isEmbedded(client)) return
  const bytes = Buffer.from(await (await client.dumpDataDir('none')).arrayBuffer())
  if (finds(bytes).length > 0) await keepBytes('databases', 'tar', bytes)
}

type Embedded = { dumpDataDir(compression: 'none'): Promise<Blob> }
const isEmbedded = (client: unknown): client is Embedded =>
  typeof client === 'object' && client !== null && 'dumpDataDir' in client

/** Works as a superuser of the database, whom no grant, policy, trigger or key stops. */
export const tamper = (db: Db, ...statements: SQL[]): Promise<void> =>
  db.transaction(async (tx) => {
    await tx.execute(sql`set local session_replication_role = replica`)
    for (const statement of statements) await tx.execute(statement)
  })

/** Makes a running step look as if it had been claimed `ms` ago. */
export async function passed(
  db: Db,
  claim: { tenantId: string; runId: string; stepKey: string },
  ms: number,
): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.execute(sql`select set_config('role', 'tributary_ledger', true)`)
    await tx.execute(sql`update app.run_step set attempt_started_at = clock_timestamp() - ${ms} * interval '1 ms'
      where tenant_id = ${claim.tenantId} and run_id = ${claim.runId} and step_key = ${claim.stepKey}`)
  })
}

/** An entry that was written so many days ago: in the chain as any other, but nobody of the product can date one. */
export const agedEntry = async (db: Db, tenantId: string, days: number): Promise<void> => {
  await db.execute(
    sql`insert into app.audit_draft (tenant_id, id, at, actor, action, target)
        values (${tenantId}, ${`aud_${randomBytes(8).toString('hex')}`}, now() - ${days} * interval '1 day', 'key:old', 'thing.done', 'x')`,
  )
}
