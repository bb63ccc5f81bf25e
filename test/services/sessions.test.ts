import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attemptsMax } from '../../control-plane/auth/attempts.ts'
import { roleScopes } from '../../schema/roles.ts'
import { apiKey } from '../../schema/tables/index.ts'
import { rowsOf, withTenant } from '../../shared/db/db.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { makeTenant } from '../support/database.ts'
import { people } from '../support/people.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

// The embedded database does one transaction after the other; here they truly meet.
describe.skipIf(left !== undefined)(`on a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let opened: OpenDb
  let plane: ControlPlane
  let who: ReturnType<typeof people>
  beforeAll(async () => {
    const url = await ownedDatabase('url' in postgres ? postgres.url : '')
    await migratePg(url, migrationsFolder)
    opened = openPg(url)
    plane = await controlPlane()
    who = people(plane, plane.appWith({}, { db: opened.db }))
  })
  afterAll(async () => {
    await plane[Symbol.asyncDispose]()
    await opened.close()
    if ('stop' in postgres) await postgres.stop()
  })

  const newTenant = async (): Promise<{ id: string; token: string }> => {
    const { tenantId } = await makeTenant(opened.db)
    const { id, token, secretHash } = await makeApiKey()
    await withTenant(opened.db, { tenantId, side: 'api' }, async (tx) => {
      await plane.ports.secrets.createTenantKey(tx, tenantId)
      const scopes = [...roleScopes.TENANT_ADMIN]
      await tx.insert(apiKey).values({ tenantId, id, name: 'test', secretHash, scopes, createdBy: 'test' })
    })
    return { id: tenantId, token }
  }

  const seen = (tenantId: string, statement: ReturnType<typeof sql>) =>
    withTenant(opened.db, { tenantId, side: 'api' }, (tx) => rowsOf(tx, statement))

  test('of refreshes with one token at once exactly one wins, and the session goes on', async () => {
    const ada = await who.signUp(await newTenant())
    for (let round = 0; round < 5; round++) {
      const { refreshToken } = await who.login(ada)
      const answers = await Promise.all(Array.from({ length: 8 }, () => who.ask('refreshSession', { refreshToken })))
      const won = answers.flatMap(({ data }) => data.refreshSession.tokens ?? [])
      expect(won).toHaveLength(1)
      expect(answers.filter(({ data }) => data.refreshSession.errors[0]?.code === 'CONFLICT')).toHaveLength(7)
      expect(await who.isIn(won[0].accessToken)).toBe(true)
    }
  })

  test('a flood of guesses at once is looked at as often as one after the other', async () => {
    const ada = await who.signUp(await newTenant())
    const guess = { tenantId: ada.tenantId, email: ada.email, password: 'another password' }
    const codes = await Promise.all(Array.from({ length: 30 }, () => who.refusal('login', guess)))
    expect(codes.filter((code) => code === 'UNAUTHENTICATED')).toHaveLength(attemptsMax.account)
    expect(codes.filter((code) => code === 'RATE_LIMITED')).toHaveLength(20)
  })

  test('who is shut out while signing in has no session, and nothing waits for ever', async () => {
    const tenant = await newTenant()
    for (let round = 0; round < 15; round++) {
      const ada = await who.signUp(tenant, { role: 'DATA_ANALYST' })
      const { tenantId, email, password, userId } = ada
      const { link } = await who.done('inviteUser', { id: userId }, { token: tenant.token })
      const outcomes = await Promise.all([
        who.refusal('login', { tenantId, email, password }),
        who.refusal('login', { tenantId, email, password }),
        who.refusal('activateAccount', { token: link, password: 'another good password' }),
        who.refusal(round % 3 === 0 ? 'deleteUser' : 'deactivateUser', { id: userId }, { token: tenant.token }),
      ])
      expect(outcomes.filter((code) => code !== undefined && code !== 'UNAUTHENTICATED')).toEqual([])
      const [user] = await seen(tenantId, sql`select status from app.tenant_user where id = ${userId}`)
      expect(user).toEqual({ status: round % 3 === 0 ? 'deleted' : 'deactivated' })
      expect(
        await seen(tenantId, sql`select id from app.session where user_id = ${userId} and ended_at is null`),
      ).toEqual([])
    }
  })

  test('of uses of one link at once one sets a password', async () => {
    const tenant = await newTenant()
    const { user } = await who.done('createUser', { email: 'x@x.example' }, { token: tenant.token })
    const { link } = await who.done('inviteUser', { id: user.id }, { token: tenant.token })
    const codes = await Promise.all(
      Array.from({ length: 6 }, (_, i) =>
        who.refusal('activateAccount', { token: link, password: `good password ${i}` }),
      ),
    )
    expect(codes.filter((code) => code === undefined)).toHaveLength(1)
    expect(codes.filter((code) => code === 'UNAUTHENTICATED')).toHaveLength(5)
  })
})
