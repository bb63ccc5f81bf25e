import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { sql } from 'drizzle-orm'
import { SMTPServer } from 'smtp-server'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowsOf } from '../../shared/db/db.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { smtpShape } from '../../workers/delivery/mail.ts'
import { sendDueMessages } from '../../workers/send-messages.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { goodPassword, people } from '../support/people.ts'

const letters: string[] = []
const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  onData(stream, _session, done) {
    let text = ''
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
    // Quoted-printable, as long lines are sent.
    stream.on('end', () => done(void letters.push(text.replaceAll(/=\r?\n/g, '').replaceAll('=3D', '='))))
  },
})
let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane({ identity: { accountUrl: 'https://console.example/account' } })
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
})
afterAll(async () => {
  await new Promise<void>((resolve) => server.close(() => resolve()))
  await plane[Symbol.asyncDispose]()
})

async function welcomed(email: string): Promise<{ id: string; token: string }> {
  const tenant = await plane.tenant()
  await plane.ports.db.execute(
    sql`update app.tenant set configuration = jsonb_set(configuration, '{userManagement,welcomeMail}', 'true') where id = ${tenant.id}`,
  )
  await people(plane).done('createUser', { email }, { token: tenant.token })
  return tenant
}
const config = () =>
  smtpShape.parse({
    url: `smtp://127.0.0.1:${(server.server.address() as AddressInfo).port}`,
    from: 'Tributary <accounts@tributary.example>',
  })

test('a welcome arrives with a link that activates the account, and the link stands in no table', async () => {
  const tenant = await welcomed('ada@x.example')
  await sendDueMessages(plane.ports, config(), new AbortController().signal)
  const link = /https:\/\/console\.example\/account#(act_\S+)/.exec(letters.at(-1) ?? '')?.[1] ?? ''
  const kept = await rowsOf(plane.ports.db, sql`select * from app.outbox, app.account_link`)
  expect(JSON.stringify(kept)).toContain('{link}')
  expect(JSON.stringify(kept)).not.toContain(link.split('.').at(-1))
  await people(plane).done('activateAccount', { token: link, password: goodPassword })
  const { accessToken } = await people(plane).login({
    tenantId: tenant.id,
    email: 'ada@x.example',
    password: goodPassword,
  })
  expect(await people(plane).isIn(accessToken)).toBe(true)
})

test('a link whose key is gone is not sent without it', async () => {
  const tenant = await welcomed('bob@x.example')
  const sent = letters.length
  const ports = { ...plane.ports, signing: signingKeys({ current: 'k2', keys: { k2: btoa('f'.repeat(32)) } }) }
  await sendDueMessages(ports, config(), new AbortController().signal)
  expect(letters).toHaveLength(sent)
  const [row] = await rowsOf(
    plane.ports.db,
    sql`select sent_at, last_error ->> 'code' as code from app.outbox where tenant_id = ${tenant.id}`,
  )
  expect(row).toEqual({ sent_at: null, code: 'MAIL_FAILED' })
})
