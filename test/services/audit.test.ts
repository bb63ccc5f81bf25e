import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sql } from 'drizzle-orm'
import { queueTypes } from '../../schema/states.ts'
import { exitCodes, run } from '../../scripts/verify-audit.ts'
import { checkpointKeys } from '../../shared/audit-checkpoint.ts'
import { eraseSubject } from '../../shared/audit-personal.ts'
import { audit } from '../../shared/audit.ts'
import { verifyAudit } from '../../shared/audit-verify.ts'
import { systemClock } from '../../shared/clock.ts'
import { withTenant } from '../../shared/db/db.ts'
import * as ledger from '../../shared/runs/ledger.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { cutAudits } from '../../workers/keep-audit.ts'
import { agedEntry, expireLeases, makeTenant } from '../support/database.ts'
import { startPostgres } from '../support/postgres.ts'
import { plannedRun, plannedStep } from '../support/runs.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

describe.skipIf(left !== undefined)(
  `the audit log on a server${left === undefined ? '' : `, left out: ${left}`}`,
  () => {
    let opened: OpenDb
    const url = 'url' in postgres ? postgres.url : ''
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'audit-keys-'))
      await migratePg(url, migrationsFolder)
      opened = openPg(url, 16)
    })
    afterAll(async () => {
      await opened.close()
      await rm(folder, { recursive: true, force: true })
      if ('stop' in postgres) await postgres.stop()
    })
    const row = (tenantId: string, target: string) => ({ tenantId, actor: 'x', action: 'x.y', target })
    const platform = { current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }
    const signing = signingKeys(platform)
    let folder = ''
    const keysFile = async (): Promise<string> => {
      const file = join(folder, 'keys.json')
      await writeFile(file, JSON.stringify({ k1: (await signing.findPair('k1'))?.publicKey }))
      return file
    }
    const verify = (tenantId: string) => verifyAudit(opened.db, { tenantId, side: 'api' })

    test('sixteen writers at once, some of which give up, keep one chain without a gap', async () => {
      const { tenantId } = await makeTenant(opened.db)
      const writers = Array.from({ length: 16 }, async (_, writer) => {
        for (let i = 0; i < 25; i++) {
          const work = withTenant(opened.db, { tenantId, side: 'api' }, async (tx) => {
            await audit(tx, row(tenantId, `${writer}.${i}`))
            if (i % 5 === 0) throw new Error('given up')
          })
          await work.catch((error: Error) => {
            if (error.message !== 'given up') throw error
          })
        }
      })
      await Promise.all(writers)
      expect(await verify(tenantId)).toMatchObject({ rows: 16 * 20, broken: undefined })
    })

    test('transactions that write for the same tenants in opposite order do not lock each other out', async () => {
      const tenants = await Promise.all([makeTenant(opened.db), makeTenant(opened.db)])
      const ids = tenants.map(({ tenantId }) => tenantId)
      const orders = [ids, ids.toReversed()]
      const writers = Array.from({ length: 12 }, async (_, writer) => {
        for (let i = 0; i < 20; i++)
          await opened.db.transaction(async (tx) => {
            await tx.execute(sql`select set_config('role', 'tributary_ledger', true)`)
            for (const id of orders[writer % 2] ?? []) await audit(tx, row(id, `${writer}.${i}`))
          })
      })
      await Promise.all(writers)
      for (const id of ids) expect(await verify(id)).toMatchObject({ rows: 240, broken: undefined })
    })

    test('cuts, writers, erasures and verifiers at once leave one good chain', async () => {
      const { tenantId } = await makeTenant(opened.db)
      const box = secretBox(platform)
      const silent = { info() {}, warn() {}, error() {} }
      for (let i = 0; i < 300; i++) await agedEntry(opened.db, tenantId, 400 - i / 1000)
      const keys = checkpointKeys(signing)
      const scope = { tenantId, side: 'api' } as const
      const cuts: number[] = []
      const found: unknown[] = []
      const work = [0, 1, 2, 3].map(async (writer) => {
        for (let i = 0; i < 25; i++) {
          const about = { subject: `usr_${i}`, personal: { email: `${writer}@acme.example` } }
          await withTenant(opened.db, scope, (tx) => audit(tx, { ...row(tenantId, `${writer}.${i}`), ...about }, box))
          if (writer === 0) await withTenant(opened.db, scope, (tx) => eraseSubject(tx, tenantId, `usr_${i}`))
          if (writer === 1 || writer === 2)
            cuts.push(await cutAudits({ db: opened.db, signing, clock: systemClock, log: silent }))
          if (writer > 1) found.push((await verifyAudit(opened.db, { ...scope, keys })).broken)
        }
      })
      await Promise.all(work)
      expect(found.filter((broken) => broken !== undefined)).toEqual([])
      expect(cuts.reduce((sum, rows) => sum + rows, 0)).toBe(300)
      expect(await verifyAudit(opened.db, { ...scope, keys })).toMatchObject({ broken: undefined, cut: 300, rows: 101 })
    })

    test('runs that start, end, fail, are cancelled and reaped at once leave one good chain per tenant', async () => {
      const limits = { maxRunningTotal: 100, maxQueuedRuns: 1000 }
      const tenants = await Promise.all([makeTenant(opened.db, limits), makeTenant(opened.db, limits)])
      const steps = ['a', 'b'].map((key, position) =>
        plannedStep(key, {
          position,
          queue: queueTypes[position] ?? 'ingest',
          needs: position ? ['a'] : [],
          max_attempts: 2,
        }),
      )
      const start = async (turn: number): Promise<void> => {
        const tenant = tenants[turn % 2]
        if (!tenant) return
        const { tenantId, pipelineId } = tenant
        const run = plannedRun(pipelineId, steps)
        await withTenant(opened.db, { tenantId, side: 'api' }, (tx) => ledger.startRun(tx, run))
        if (turn % 5 === 0)
          await withTenant(opened.db, { tenantId, side: 'api' }, (tx) =>
            ledger.cancelRun(tx, { runId: run.runId, reason: 'x', actor: 'x', requestId: null }),
          )
      }
      const tenantIds = tenants.map(({ tenantId }) => tenantId)
      const work = async (worker: number): Promise<void> => {
        for (let turn = 0; turn < 30; turn++) {
          await start(turn + worker)
          const ask = { worker: `w${worker}`, queues: queueTypes, limit: 4, leaseMs: 30_000, tenants: tenantIds }
          for (const [index, claim] of (await ledger.claimSteps(opened.db, ask)).entries()) {
            if (index === 3) continue
            if (index === 2)
              await ledger.failStep(opened.db, claim, { code: 'INTERNAL', message: 'x', hint: 'x', retry: 'never' })
            else await ledger.completeStep(opened.db, claim, {}, [])
          }
        }
      }
      await Promise.all([0, 1, 2, 3, 4, 5].map(work))
      await expireLeases(opened.db)
      await ledger.tick(opened.db)
      for (const { tenantId } of tenants) {
        const verified = await verify(tenantId)
        expect(verified.broken).toBeUndefined()
        expect(verified.rows).toBeGreaterThan(90)
      }
      const lines: string[] = []
      expect(await run(['--url', url, '--checkpoint-keys', await keysFile()], (line) => lines.push(line))).toBe(
        exitCodes.good,
      )
      expect(lines.filter((line) => line.startsWith('good'))).toHaveLength(lines.length)
    })
  },
)
