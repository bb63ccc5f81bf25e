import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/pglite'
import { migrate } from 'drizzle-orm/pglite/migrator'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rowsOf, type Side, withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { putMail } from '../../shared/outbox.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { makeTenant, memoryDatabase } from '../support/database.ts'

describe('what the control plane may do in the outbox', () => {
  let database: Awaited<ReturnType<typeof memoryDatabase>>
  let tenantId: string
  beforeAll(async () => {
    database = await memoryDatabase()
    tenantId = (await makeTenant(database.db)).tenantId
  })
  afterAll(() => database.close())

  const as = (statement: ReturnType<typeof sql>, side: Side = 'api') =>
    withTenant(database.db, { tenantId, side }, (tx) => rowsOf(tx, statement))
  const refusalOf = async (work: Promise<unknown>): Promise<string> => {
    const error: unknown = await work.then(
      () => undefined,
      (reason: unknown) => reason,
    )
    return error instanceof Error ? String(error.cause) : ''
  }
  const mail = { to: ['a@x.example'], subject: 's', text: 't' }

  test('it asks for mail to people of the tenant and takes it back', async () => {
    await withTenant(database.db, { tenantId, side: 'api' }, (tx) =>
      putMail(tx, { tenantId, dedupeKey: 'user.welcome 1', ...mail }),
    )
    expect(await as(sql`select kind, payload, attempts from app.outbox`)).toEqual([
      { kind: 'email', payload: mail, attempts: 0 },
    ])
    expect(await as(sql`delete from app.outbox returning dedupe_key`)).toEqual([{ dedupe_key: 'user.welcome 1' }])
  })

  test('it asks for none in the name of a step or of another tenant, and none as if it were sent', async () => {
    const other = (await makeTenant(database.db)).tenantId
    const insert = (of: string, key: string) =>
      as(
        sql`insert into app.outbox (tenant_id, id, kind, dedupe_key, payload) values (${of}, ${newId('outbox')}, 'email', ${key}, '{}')`,
      )
    expect(await refusalOf(insert(tenantId, 'run_1 step 1 0'))).toContain('row-level security')
    expect(await refusalOf(insert(other, 'user.welcome 1'))).toContain('row-level security')
    const sent = as(
      sql`insert into app.outbox (tenant_id, id, kind, dedupe_key, payload, sent_at) values (${tenantId}, 'o', 'email', 'user.x', '{}', now())`,
    )
    expect(await refusalOf(sent)).toContain('permission denied')
    expect(await refusalOf(as(sql`update app.outbox set payload = '{}'`))).toContain('permission denied')
  })

  test('it cannot take back what a step asked for, and a worker cannot do any of it', async () => {
    await database.db.execute(
      sql`insert into app.outbox (tenant_id, id, kind, dedupe_key, payload) values (${tenantId}, 'of_step', 'email', 'run_1 step 1 0', '{}')`,
    )
    expect(await as(sql`delete from app.outbox returning id`)).toEqual([])
    expect(await as(sql`select id from app.outbox`)).toEqual([{ id: 'of_step' }])
    expect(await refusalOf(as(sql`delete from app.outbox`, 'worker'))).toContain('permission denied')
  })
})

test('keys from before scopes had finer names keep what they could do, and first administrators are active', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'migrations-'))
  const client = await PGlite.create()
  try {
    await cp(migrationsFolder, folder, { recursive: true })
    const journal = JSON.parse(await readFile(join(folder, 'meta/_journal.json'), 'utf8'))
    const before = journal.entries.filter(({ idx }: { idx: number }) => idx < 4)
    await writeFile(join(folder, 'meta/_journal.json'), JSON.stringify({ ...journal, entries: before }))
    const db = drizzle(client)
    await migrate(db, { migrationsFolder: folder })
    await db.execute(
      sql`insert into app.tenant (id, name, company_name, admin_email, plan, configuration) values ('old_tenant', '', '', '', 'SCALE', '{}')`,
    )
    const made: [string, string[]][] = [
      ['platform', ['platform:admin', 'tenant:read', 'audit:read']],
      ['reader', ['tenant:read', 'runs:read']],
      ['runner', ['runs:write']],
    ]
    for (const [id, scopes] of made)
      await db.execute(
        sql`insert into app.api_key (tenant_id, id, name, secret_hash, scopes, created_by) values ('old_tenant', ${id}, '', '', array(select jsonb_array_elements_text(${JSON.stringify(scopes)}::jsonb)), '')`,
      )
    await db.execute(
      sql`insert into app.tenant_user (tenant_id, id, email, username) values ('old_tenant', 'first', 'a@x.example', 'a')`,
    )
    await migrate(db, { migrationsFolder })
    expect((await db.execute(sql`select status from app.tenant_user`)).rows).toEqual([{ status: 'active' }])
    const { rows } = await db.execute<{ id: string; scopes: string[] }>(
      sql`select id, scopes from app.api_key order by id`,
    )
    expect(rows).toEqual([
      {
        id: 'platform',
        scopes: [
          'platform:admin',
          'tenant:read',
          'audit:read',
          'users:read',
          'keys:read',
          'platform:read',
          'platform:audit',
        ],
      },
      { id: 'reader', scopes: ['tenant:read', 'runs:read', 'users:read', 'keys:read', 'workers:read'] },
      { id: 'runner', scopes: ['runs:write'] },
    ])
  } finally {
    await client.close()
    await rm(folder, { recursive: true })
  }
})
