import { sql } from 'drizzle-orm'
import { callOnce, type TenantScope } from '../shared/db/db.ts'
import type { Ports } from '../shared/ports.ts'
import { fireDue } from '../shared/schedules/fire-due.ts'
import type { WakeTarget } from '../shared/waking/waker.ts'

// Whoever wakes takes what there is of all tenants.
const wakesMax = 100

/**
 * Housekeeping of the run ledger (lost leases, deadlines, missed wake-ups) and what is due to start. Safe at any rate and
 * in any number of processes. Answers how many triggers were due and how many queues were woken.
 */
export async function keepHouse(
  ports: Pick<Ports, 'db' | 'waker' | 'hub' | 'log'>,
): Promise<{ triggers: number; woken: number }> {
  const nobody: TenantScope = { tenantId: '', side: 'api' }
  const waiting = await callOnce<WakeTarget>(
    ports.db,
    nobody,
    sql`select o_tenant as "tenantId", o_queue as queue from app.tick(100)`,
  )
  await callOnce(ports.db, nobody, sql`select app.sweep_requests(1000)`)
  const triggers = await fireDue(ports, 'api')
  const targets = waiting.slice(0, wakesMax)
  await Promise.all(targets.map((target) => ports.waker.wake(target, { unheld: true })))
  return { triggers, woken: targets.length }
}
