import { expect, test } from 'vitest'
import notify from '../../../../workers/processors/notify_systems/email_notification.ts'
import { smallContext } from '../../../support/small-context.ts'

test('addresses alone are enough for a mail that says which run it was', async () => {
  await using ctx = await smallContext()
  const to = ['admin@guru.example', 'ana@guru.example', 'admin@guru.example']
  const { outputs, mail } = await notify.run(ctx, notify.settings.parse({ to_emails: to }))
  expect(outputs).toEqual({ recipients: ['admin@guru.example', 'ana@guru.example'] })
  expect(mail).toEqual([
    {
      to: ['admin@guru.example', 'ana@guru.example'],
      subject: 'Pipeline demo/orders/daily: step step reached',
      text: expect.stringContaining('run_1'),
    },
  ])
})

test('subject and body of the settings are taken as they are', async () => {
  await using ctx = await smallContext()
  const settings = notify.settings.parse({ to_emails: ['a@b.example'], subject: 'Done', body: 'All\nof it' })
  expect((await notify.run(ctx, settings)).mail).toEqual([{ to: ['a@b.example'], subject: 'Done', text: 'All\nof it' }])
})

test.each([
  { to_emails: [] },
  { to_emails: ['no address'] },
  { to_emails: ['a@b.example\r\nBcc: eve@evil.example'] },
  { to_emails: Array.from({ length: 51 }, (_, n) => `a${n}@b.example`) },
  { to_emails: ['a@b.example'], subject: 'Hi\r\nBcc: eve@evil.example' },
])('%j is no setting', (settings) => {
  expect(notify.settings.safeParse(settings).success).toBe(false)
})
