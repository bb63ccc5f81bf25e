import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { roleScopes } from '../../schema/roles.ts'
import { apiKey } from '../../schema/tables/index.ts'
import { withTenant } from '../../shared/db/db.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'
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

  const newTenant = async (): Promise<(document: string) => Promise<Answer>> => {
    const { tenantId } = await makeTenant(opened.db)
    const { id, token, secretHash } = await makeApiKey()
    const scopes = [...roleScopes.TENANT_ADMIN]
    await withTenant(opened.db, { tenantId, side: 'api' }, (tx) =>
      tx.insert(apiKey).values({ tenantId, id, name: 'test', secretHash, scopes, createdBy: 'test' }),
    )
    const app = plane.appWith({}, { db: opened.db })
    return (document) => plane.query(document, { token, app })
  }
  const codes = (answers: Answer[]): Loose[] =>
    answers.flatMap(({ data }) =>
      Object.values<Loose>(data).flatMap(({ errors }) => errors.map(({ code }: Loose) => code)),
    )

  test('of administrators who are removed at once, one stays', async () => {
    for (let round = 0; round < 5; round++) {
      const query = await newTenant()
      const made = await Promise.all(
        ['a', 'b', 'c', 'd'].map((name) =>
          query(
            `mutation { createUser(input: { email: "${name}@x.example", role: TENANT_ADMIN }) { user { id } errors { code } } }`,
          ),
        ),
      )
      const ids: string[] = made.map(({ data }) => data.createUser.user.id)
      const removed = await Promise.all([
        query(`mutation { deactivateUser(input: { id: "${ids[0]}" }) { errors { code } } }`),
        query(`mutation { deleteUser(input: { id: "${ids[1]}" }) { errors { code } } }`),
        query(`mutation { changeUserRole(input: { id: "${ids[2]}", role: DATA_ANALYST }) { errors { code } } }`),
        query(`mutation { deleteUser(input: { id: "${ids[3]}" }) { errors { code } } }`),
      ])
      expect(codes(removed)).toEqual(['CONFLICT'])
    }
  })

  test('of people who take one address at once, one gets it', async () => {
    const query = await newTenant()
    const other = await query('mutation { createUser(input: { email: "o@x.example" }) { user { id } } }')
    const { id } = other.data.createUser.user
    const taken = await Promise.all([
      ...['one@x.example', 'ONE@x.example', 'One@x.example'].map((email) =>
        query(`mutation { createUser(input: { email: "${email}" }) { errors { code } } }`),
      ),
      query(`mutation { updateUser(input: { id: "${id}", email: "oNE@x.example" }) { errors { code } } }`),
    ])
    expect(codes(taken)).toEqual(['ALREADY_EXISTS', 'ALREADY_EXISTS', 'ALREADY_EXISTS'])
  })

  test('of rotations of one key at once, one makes a key', async () => {
    const query = await newTenant()
    const { data } = await query('mutation { createApiKey(input: { name: "x" }) { apiKey { id } } }')
    const rotate = `mutation { rotateApiKey(input: { id: "${data.createApiKey.apiKey.id}", overlapSeconds: 9 }) { errors { code } } }`
    expect(codes(await Promise.all([rotate, rotate, rotate].map(query)))).toEqual(['CONFLICT', 'CONFLICT'])
  })
})
