import { sql } from 'drizzle-orm'
import { rowsOf } from '../../shared/db/db.ts'
import { askable, sidesFor } from './facts.ts'
import { type Check, fail, type Finding, ok, skipped, warn } from './finding.ts'

/** The login may become the roles of its side, no other one with power, and the roles themselves have none. */
export const roles: Check = {
  name: 'roles',
  concerns: () => true,
  async look(house) {
    const found = await askable(house)
    if (!found) return skipped('The database has to answer first.')
    const { db, facts } = found
    const findings: Finding[] = []
    for (const { name } of await rowsOf<{ name: string }>(
      db,
      sql`select rolname as name from pg_roles where rolname in ('tributary_api', 'tributary_worker', 'tributary_ledger')
          and (rolsuper or rolbypassrls or rolcanlogin)`,
    ))
      findings.push(
        fail(
          `The role ${name} passes by row-level security or can log in.`,
          `As a superuser: alter role ${name} nosuperuser nobypassrls nologin`,
        ),
      )
    // The embedded database has one user; each transaction puts its power off.
    if (house.part === 'embedded') {
      if (findings.length === 0) findings.push(ok('Those of the product have no power of their own.'))
      return findings
    }
    if (facts.strong !== null)
      findings.push(
        fail(
          `The login ${facts.login} is, or may become, one that row-level security does not hold (${facts.strong}).`,
          'Make a login of its own: create role <name> login noinherit password <password>',
        ),
      )
    const sides = sidesFor(house.part, facts)
    if (sides.length === 0)
      findings.push(
        fail(
          `The login ${facts.login} may become no role of the product.`,
          `Run as the owner: npm run migrate -- --${house.part === 'worker' ? 'worker' : 'api'}-login ${facts.login}`,
        ),
      )
    else if (facts.owner)
      findings.push(
        warn(
          `The login ${facts.login} owns the tables.`,
          'Give processes a login that owns nothing; the owner is for npm run migrate.',
        ),
      )
    else if (facts.api && facts.worker)
      findings.push(
        warn(
          `The login ${facts.login} may become the role of either side.`,
          'Give control planes and workers a login each, so that one that is taken over has less.',
        ),
      )
    if (findings.length === 0)
      findings.push(
        ok(
          `The login ${facts.login} may become ${sides.map((side) => `tributary_${side}`).join(' and ')}, and no more.`,
        ),
      )
    return findings
  },
}
