import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tableFaults } from '../../scripts/tables.ts'
import { memoryDatabase } from '../support/database.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
beforeAll(async () => {
  database = await memoryDatabase()
})
afterAll(() => database.close())

test('the tables of the migrations keep every rule', async () => {
  expect(await tableFaults(database.db)).toEqual([])
})

const planted: [string, string, string, string][] = [
  [
    'a table without forced row-level security',
    'alter table app.credential no force row level security',
    'alter table app.credential force row level security',
    'app.credential has no forced row-level security with a policy',
  ],
  [
    'a table without a policy',
    'drop policy tenant on app.tenant_key',
    "create policy tenant on app.tenant_key to tributary_api, tributary_worker using (tenant_id = current_setting('app.tenant_id', true))",
    'app.tenant_key has no forced row-level security with a policy',
  ],
  [
    'a policy that lends its rows to every member of its role',
    'alter policy ledger on app.run_step using (true)',
    "alter policy ledger on app.run_step using (current_user = 'tributary_ledger')",
    'the policy ledger of app.run_step asks neither for the tenant nor for the role',
  ],
  [
    'an index that does not start with the tenant',
    'create index planted on app.credential (name)',
    'drop index app.planted',
    'the index app.planted starts with name, not with the tenant',
  ],
  [
    'a function that runs as its owner',
    'create function app.planted() returns int language sql security definer as $$ select 1 $$',
    'drop function app.planted()',
    'the function app.planted runs as its owner and is not on the list',
  ],
  [
    'a role that passes by row-level security',
    'alter role tributary_api bypassrls',
    'alter role tributary_api nobypassrls',
    'the role tributary_api can log in, owns a table or passes by row-level security',
  ],
  [
    'a column that the code does not know',
    'alter table app.outbox add planted text',
    'alter table app.outbox drop planted',
    'outbox.planted text is in the migrations and not in schema/tables',
  ],
]

test.for(planted)('%s is found', async ([, plant, remove, fault]) => {
  await database.db.execute(sql.raw(plant))
  try {
    expect(await tableFaults(database.db)).toContain(fault)
  } finally {
    await database.db.execute(sql.raw(remove))
  }
  expect(await tableFaults(database.db)).toEqual([])
})
