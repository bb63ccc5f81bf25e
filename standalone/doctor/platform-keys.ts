import { sql } from 'drizzle-orm'
import { type Db, rowsOf, type Side, withLedger, withTenant } from '../../shared/db/db.ts'
import { type SecretBox, secretBox } from '../../shared/secrets/secret-box.ts'
import { askable, sidesFor } from './facts.ts'
import { type Check, fail, type Finding, ok, skipped, warn } from './finding.ts'

const tenantsPerRead = 500

/** The platform keys open every data key that is stored: what one of them does not open is lost to its tenant. */
export const platformKeys: Check = {
  name: 'platform keys',
  concerns: () => true,
  async look(house, signal) {
    const { platformKeys: keys, part } = house
    if (!keys)
      return part === 'embedded'
        ? skipped('There are none yet: npm start makes them.')
        : fail('They cannot be read.', 'Set PLATFORM_KEYS; docs/self-host.md says how they are made.')
    const found = await askable(house)
    const [side] = found ? sidesFor(part, found.facts) : []
    const number = Object.keys(keys.keys).length
    const form = `${number} can be read`
    if (!found || side === undefined || !found.facts.migrated)
      return skipped(`${form}; the database has to be ready to try them.`)
    const count = await tryAll(found.db, side, secretBox(keys), signal)
    const findings: Finding[] = []
    if (count.unreadable > 0)
      findings.push(
        fail(
          `${count.unreadable} of ${count.readable + count.unreadable} stored data keys open with none of them.`,
          'Add the platform key that wrapped them to PLATFORM_KEYS, from where it was kept.',
        ),
      )
    if (count.isPartial)
      findings.push(warn(`The time was enough for ${count.tenants} tenants only.`, 'Run it nearer to the database.'))
    if (findings.length === 0) findings.push(ok(`${form}, and open all ${count.readable} stored data keys.`))
    return findings
  },
}

type Count = { tenants: number; readable: number; unreadable: number; isPartial: boolean }

// Counts alone: no key leaves the box.
async function tryAll(db: Db, side: Side, box: SecretBox, signal: AbortSignal): Promise<Count> {
  const count: Count = { tenants: 0, readable: 0, unreadable: 0, isPartial: false }
  for (let after = ''; ;) {
    const tenants = await withLedger(db, side, (tx) =>
      rowsOf<{ o_tenant: string }>(tx, sql`select o_tenant from app.audit_tenants(${after}, ${tenantsPerRead})`),
    )
    for (const { o_tenant: tenantId } of tenants) {
      if (signal.aborted) return { ...count, isPartial: true }
      const one = await withTenant(db, { tenantId, side }, (tx) => box.tryTenantKeys(tx, tenantId))
      count.tenants++
      count.readable += one.readable
      count.unreadable += one.unreadable
    }
    const last = tenants.at(-1)
    if (last === undefined) return count
    after = last.o_tenant
  }
}
