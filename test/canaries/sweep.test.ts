import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/pglite'
import { migrate } from 'drizzle-orm/pglite/migrator'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import * as tables from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { jsonLog } from '../../shared/log.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { rowCanary, secretCanary } from '../support/canary.ts'
import { dumpOf, makeTenant } from '../support/database.ts'
import { finds } from './needles.ts'
import { sweep } from './sweep.ts'

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sweep-'))
})
afterEach(() => rm(folder, { recursive: true }))

const put = async (name: string, content: string | Buffer): Promise<void> => {
  await mkdir(dirname(join(folder, name)), { recursive: true })
  await writeFile(join(folder, name), content)
}
const leaks = async (): Promise<string[]> => (await sweep(folder)).leaks
const secret = secretCanary('planted')

describe('a secret is found', () => {
  const forms: [string, string | Buffer][] = [
    ['plain', `login failed for ${secret} at 10:00`],
    ['in capitals', secret.toUpperCase()],
    ['in base64', Buffer.from(secret).toString('base64')],
    ['in base64, behind one letter', Buffer.from(`:${secret}`).toString('base64')],
    ['in base64, behind a user name', `Basic ${Buffer.from(`ab:c${secret}`).toString('base64')}`],
    ['in base64 for URLs', Buffer.from(`\u00ff\u00ff${secret}?>`).toString('base64url')],
    ['in hex', Buffer.from(secret).toString('hex')],
    ['in hex in capitals', Buffer.from(secret).toString('hex').toUpperCase()],
    ['in a URL', `postgres://u:${encodeURIComponent(secret)}@host/db`],
    ['percent by percent', Array.from(Buffer.from(secret), (byte) => `%${byte.toString(16)}`).join('')],
    ['in JSON in JSON', JSON.stringify(JSON.stringify({ password: secret }))],
    ['in UTF-16', Buffer.from(secret, 'utf16le')],
    ['backwards', [...secret].toReversed().join('')],
    ['in bytes that are no text', Buffer.concat([Buffer.from([0, 255, 254]), Buffer.from(secret), Buffer.from([0])])],
  ]
  test.for(forms)('%s', async ([, content]) => {
    await put('some/file', content)
    expect(await leaks()).toHaveLength(1)
  })

  test('across the pieces in which a large file is read', async () => {
    for (const gap of [0, 1, 7, 15]) await put(`large-${gap}`, `${'x'.repeat((1 << 20) - gap)}${secret}`)
    expect(await leaks()).toHaveLength(4)
  })
})

describe('what is planted is found', () => {
  test('a secret in a line of the log', async () => {
    const lines: string[] = []
    const log = jsonLog(
      (line) => lines.push(line),
      () => new Date(0),
    )
    log.warn('login.failed', { reason: `password ${secret} refused` })
    await put('logs/1.txt', lines.join('\n'))
    expect(await leaks()).toEqual([expect.stringContaining('logs/1.txt at')])
  })

  test('a secret in the message of an error, as text and in its trace', async () => {
    const error = new Error(`cannot log in with ${secret}`)
    await put('output.txt', `Error\n${error.stack}`)
    await put('answers/1.txt', JSON.stringify({ errors: [{ message: error.message }] }))
    expect(await leaks()).toHaveLength(2)
  })

  test('a secret in an audit entry, and a row in a table that is gone', async () => {
    // Opened past the tests' own door, which would leave it for the sweep.
    const client = await PGlite.create()
    const db = drizzle(client, { schema: tables })
    await migrate(db, { migrationsFolder })
    const { tenantId } = await makeTenant(db)
    expect(finds(Buffer.from(await dumpOf(db)))).toEqual([])
    const entry = { tenantId, actor: 'key:x', action: 'thing.done', target: 'x', details: { url: secret } }
    await withTenant(db, { tenantId, side: 'api' }, (tx) => audit(tx, entry))
    expect(finds(Buffer.from(await dumpOf(db)))).toMatchObject([{ kind: 'secret', form: 'plain' }])
    await db.execute(sql`create table gone as select ${rowCanary('deleted')}::text as word`)
    await db.execute(sql`drop table gone`)
    const bytes = Buffer.from(await (await client.dumpDataDir('none')).arrayBuffer())
    expect(finds(bytes)).toContainEqual(expect.objectContaining({ kind: 'row' }))
    await client.close()
  })

  test('a row outside its tenant', async () => {
    const row = rowCanary('planted')
    for (const name of [
      'folders/world-1/tenants/guru/files/in/a.csv',
      'folders/w/partners/guru/inbox/a.csv',
      'databases/a.txt',
    ])
      await put(name, `1,${row}\n`)
    expect(await leaks()).toEqual([expect.stringMatching(/^databases\/a\.txt at 2: a row, plain$/)])
    expect((await sweep(folder)).allowed).toBe(2)
  })

  test('a whole key, a refresh token and an access token where only their hash may be', async () => {
    const { token } = await makeApiKey()
    const hex = 'ab'.repeat(32)
    const jwt = `eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1c3JfMDEyMzQ1Njc4OSJ9.${'x'.repeat(43)}`
    for (const text of [token, `ref_guru.ses_${'0'.repeat(32)}.${hex}.${hex}`, jwt]) {
      await put('databases/a.txt', text)
      expect(await leaks()).toHaveLength(1)
    }
    await put('databases/a.txt', token.slice(0, 40))
    await put('answers/a.txt', token)
    expect(await leaks()).toEqual([])
  })
})
