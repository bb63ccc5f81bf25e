import { expect, test } from 'vitest'
import { hostileSftp } from '../support/hostile-sftp.ts'
import { onboard, world } from '../support/world.ts'

const pipeline = `
pipeline_id: orders
defaults: { retry: { attempts: 1 } }
steps:
  - step_id: ingest
    ps_type: file.ingest
    source: { path: in/orders.csv }
    destination: { table: orders, mode: versioned, business_key: [id] }
  - step_id: check
    ps_type: quality.check
    table: orders
    rules: [ { rule: range, column: amount, min: 0, max: 100 } ]
    fail_below: 1
  - step_id: export
    ps_type: file.export
    source: { query: "SELECT id, amount FROM orders ORDER BY id" }
    destination: { path: out/orders.csv }
  - step_id: upload
    ps_type: transfer.sftp_upload
    credential: partner
    source: { paths: [out/orders.csv] }
    destination: { directory: . }
  - step_id: tell
    ps_type: notify_systems.email_notification
    trigger: on_failure
    to_emails: ["{admin_email}"]
    subject: "Failed at {failure.step_id}: {failure.code}"
`

test('a server that runs full fails the delivery with that reason, and the retry delivers without doing the rest again', async () => {
  await using w = await world()
  // Room for 20 bytes at first; the file has 22.
  const hostility = {
    failAt: { byte: 20, message: 'No space left on device' } as { byte: number; message: string } | undefined,
  }
  await using far = await hostileSftp(hostility)
  const t = await onboard(w.house, 'careful')
  await t.credential('partner', 'sftp', far.secret)
  await t.put('in/orders.csv', 'id,amount\n1,10\n2,20\n3,30\n')
  await t.save('shop/orders/daily', pipeline)
  const failed = await t.run('shop/orders/daily')
  expect(failed).toMatchObject({ state: 'FAILED', error: { code: 'REMOTE_FULL', stepKey: 'upload' } })
  expect(failed.error?.hint).toMatch(/retry/)
  expect(Object.fromEntries(failed.steps.map((step) => [step.key, step.state]))).toEqual({
    ingest: 'SUCCEEDED',
    check: 'SUCCEEDED',
    export: 'SUCCEEDED',
    upload: 'FAILED',
    tell: 'SUCCEEDED',
  })
  expect(await far.names()).not.toContain('orders.csv')

  hostility.failAt = undefined
  await t.retry(failed.id)
  const done = await t.ended(failed.id)
  expect(done.state).toBe('SUCCEEDED')
  expect(done.steps.find((step) => step.key === 'ingest')?.attempt).toBe(1)
  expect(done.steps.find((step) => step.key === 'tell')?.state).toBe('SKIPPED')
  expect((await far.content('orders.csv')).toString()).toBe('id,amount\n1,10\n2,20\n3,30\n')
})

test('data that the checks refuse stops before the delivery, and a corrected file goes through from the ingest on', async () => {
  await using w = await world()
  await using far = await hostileSftp()
  const t = await onboard(w.house, 'strict')
  await t.credential('partner', 'sftp', far.secret)
  await t.put('in/orders.csv', 'id,amount\n1,10\n2,2000\n')
  await t.save('shop/orders/daily', pipeline)
  const blocked = await t.run('shop/orders/daily')
  expect(blocked).toMatchObject({ state: 'FAILED', error: { code: 'QUALITY_BLOCKED', stepKey: 'check' } })
  expect(await far.names()).toEqual([])
  await t.put('in/orders.csv', 'id,amount\n1,10\n2,20\n')
  await t.retry(blocked.id, 'ingest')
  expect((await t.ended(blocked.id)).state).toBe('SUCCEEDED')
  expect((await far.content('orders.csv')).toString()).toBe('id,amount\n1,10\n2,20\n')
  expect(await t.rows('SELECT version, change_type FROM raw.orders WHERE id = 2 ORDER BY version')).toEqual([
    { version: 1, change_type: 'INSERT' },
    { version: 2, change_type: 'UPDATE' },
  ])
})

test('a server whose key is another than the pinned one gets nothing', async () => {
  await using w = await world()
  await using far = await hostileSftp()
  const t = await onboard(w.house, 'wary')
  await t.credential('partner', 'sftp', { ...far.secret, hostKey: `SHA256:${'A'.repeat(43)}` })
  await t.put('in/orders.csv', 'id,amount\n1,10\n')
  await t.save('shop/orders/daily', pipeline)
  const run = await t.run('shop/orders/daily')
  expect(run).toMatchObject({ state: 'FAILED', error: { code: 'HOST_KEY_CHANGED', stepKey: 'upload' } })
  expect(await far.names()).toEqual([])
})
