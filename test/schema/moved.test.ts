import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { queueTypes } from '../../schema/states.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import * as ledger from '../../shared/runs/ledger.ts'
import { makeTenant, memoryDatabase } from '../support/database.ts'
import { plannedRun, plannedStep } from '../support/runs.ts'

let database: Awaited<ReturnType<typeof memoryDatabase>>
beforeAll(async () => {
  database = await memoryDatabase()
})
afterAll(() => database.close())

const sha256 = 'a'.repeat(64)
const file = { path: 'out/a.csv', bytes: 10, rows: 2, sha256 }
const cases: [string, string, Record<string, unknown>, Record<string, unknown>][] = [
  [
    'an export',
    'file.export',
    { path: 'out/a.csv', rows: 2, bytes: 10, files: [file] },
    { path: 'out/a.csv', rows: 2, bytes: 10, files: 1 },
  ],
  [
    'an upload',
    'transfer.sftp_upload',
    { files: [file, file], bytes: 20, path: '/in/a.csv' },
    { path: '/in/a.csv', bytes: 20, files: 2 },
  ],
  [
    'a mail',
    'notify_systems.email_notification',
    { recipients: ['canary@acme.example', 'b@acme.example'] },
    { recipients: 2 },
  ],
  [
    'an archive',
    'file.compress',
    { path: 'a.zip', bytes: 5, sha256, files: 3, entries: ['canary.csv'] },
    { path: 'a.zip', bytes: 5, sha256, files: 3 },
  ],
  ['a step that moved nothing', 'credential.check', { ok: true, rows: 'canary', files: 'canary', path: null }, {}],
]

test.for(cases)('the entry of %s says how much it moved, and not what', async ([, type, outputs, moved]) => {
  const { tenantId, pipelineId } = await makeTenant(database.db)
  await withTenant(database.db, { tenantId, side: 'api' }, (tx) =>
    ledger.startRun(tx, plannedRun(pipelineId, [plannedStep('a', { ps_type: type, queue: 'export' })])),
  )
  const ask = { worker: 'w', queues: queueTypes, limit: 1, leaseMs: 30_000, tenants: [tenantId] }
  const [claim] = await ledger.claimSteps(database.db, ask)
  if (!claim) throw new Error('nothing to claim')
  await ledger.completeStep(database.db, claim, outputs, [])
  const rows = await rowsOf<{ details: object }>(
    database.db,
    sql`select details from app.audit_event where tenant_id = ${tenantId} and action = 'step.succeeded'`,
  )
  expect(rows).toEqual([{ details: { type, ...moved } }])
})
