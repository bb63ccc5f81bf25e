import { and, eq } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createPlatform } from '../../control-plane/tenants/bootstrap.ts'
import { rewrapAllTenants } from '../../scripts/rotate-platform-key.ts'
import { apiKey, credential } from '../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { openStored, secretBox } from '../../shared/secrets/secret-box.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { makeTenant } from '../support/database.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

// The embedded database does one transaction after the other; here they truly meet.
describe.skipIf(left !== undefined)(`on a server${left === undefined ? '' : `, left out: ${left}`}`, () => {
  let opened: OpenDb
  let plane: ControlPlane
  beforeAll(async () => {
    const url = await ownedDatabase('url' in postgres ? postgres.url : '')
    await migratePg(url, migrationsFolder)
    opened = openPg(url)
    plane = await controlPlane()
  })
  afterAll(async () => {
    await plane[Symbol.asyncDispose]()
    await opened.close()
    if ('stop' in postgres) await postgres.stop()
  })

  const as = <T>(tenantId: string, side: 'api' | 'worker', work: (tx: Tx) => Promise<T>): Promise<T> =>
    withTenant(opened.db, { tenantId, side }, work)

  test('opening and replacing while keys rotate never fails and loses no value', async () => {
    const { tenantId } = await makeTenant(opened.db)
    const { secrets } = plane.ports
    const { id, token, secretHash } = await makeApiKey()
    const scopes = ['credentials:read', 'credentials:write']
    await as(tenantId, 'api', async (tx) => {
      await secrets.createTenantKey(tx, tenantId)
      await tx.insert(apiKey).values({ tenantId, id, name: 'test', secretHash, scopes, createdBy: 'test' })
    })
    const app = plane.appWith({}, { db: opened.db })
    const write = (verb: 'create' | 'update', name: string, password: string) => {
      const secret = `secret: { host: "h", username: "u", password: "${password}" }`
      const input = verb === 'create' ? `name: "${name}", provider: "sftp", ${secret}` : `name: "${name}", ${secret}`
      return plane.query(`mutation { result: ${verb}Credential(input: { ${input} }) { errors { code } } }`, {
        token,
        app,
      })
    }
    const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
    for (const name of names) expect((await write('create', name, '0')).data.result.errors).toEqual([])
    const openOf = (name: string) =>
      as(tenantId, 'worker', (tx) =>
        openStored(tx, secrets, async () => {
          const [row] = await tx
            .select()
            .from(credential)
            .where(and(eq(credential.tenantId, tenantId), eq(credential.name, name)))
          return row && { ...row, owner: { tenantId, credentialId: row.id, version: row.version } }
        }),
      )
    const over = new AbortController()
    const last = new Map<string, string>()
    const work = [
      ...[0, 1, 2].map(async () => {
        while (!over.signal.aborted)
          for (const name of names) expect((await openOf(name))?.secret).toMatchObject({ host: 'h' })
      }),
      ...['a', 'b'].map(async (name) => {
        for (let i = 1; !over.signal.aborted; i++) {
          expect((await write('update', name, String(i))).data?.result.errors).toEqual([])
          last.set(name, String(i))
        }
      }),
    ]
    const rotate = () =>
      plane.query(`mutation { rotateTenantKey(input: { tenantId: "${tenantId}" }) { done errors { code } } }`, {
        token: platformToken,
        app,
      })
    const platformToken = await platformKey()
    for (let round = 0; round < 8; round++) {
      const answers = await Promise.all([rotate(), rotate()])
      for (const { data } of answers) expect(data?.rotateTenantKey).toEqual({ done: true, errors: [] })
    }
    over.abort()
    await Promise.all(work)
    for (const name of names) expect((await openOf(name))?.secret).toMatchObject({ password: last.get(name) ?? '0' })
  })

  test('the owner of the database wraps the keys of every tenant anew', async () => {
    const raw = btoa('fedcba9876543210fedcba9876543210')
    const keys = { current: 'k2', keys: { k1: btoa('0123456789abcdef0123456789abcdef'), k2: raw } }
    const { tenantId } = await makeTenant(opened.db)
    const owner = { tenantId, credentialId: 'crd_1', version: 1 }
    await as(tenantId, 'api', (tx) => plane.ports.secrets.createTenantKey(tx, tenantId))
    const sealed = await as(tenantId, 'api', (tx) => plane.ports.secrets.seal(tx, owner, 'value'))
    expect(await rewrapAllTenants(opened.db, keys)).toBeGreaterThan(0)
    expect(await rewrapAllTenants(opened.db, keys)).toBe(0)
    const onlyNew = secretBox({ current: 'k2', keys: { k2: raw } })
    expect(await as(tenantId, 'worker', (tx) => onlyNew.open(tx, owner, sealed))).toBe('value')
  })

  // A key of the platform in this database.
  async function platformKey(): Promise<string> {
    const { token } = await makeApiKey()
    await createPlatform({ ...plane.ports, db: opened.db }, token)
    return token
  }
})
