import { expect, test } from 'vitest'
import { finds } from '../canaries/needles.ts'
import { rowCanary, secretCanary } from '../support/canary.ts'
import { dumpOf } from '../support/database.ts'
import { hostileSftp } from '../support/hostile-sftp.ts'
import { onboard, world } from '../support/world.ts'

const word = rowCanary('of-an-order')
const header = 'id,customer,amount\n'
const files: Record<string, string> = {
  'orders.csv': `${header}1,${word},10\n2,${word}-2,20\n`,
  'wrong-types.csv': `${header}1,${word},10\n3,${word},${word}\n${word},x,1\n`,
  'wrong-columns.csv': `${header}1,${word},10\n4,${word}\n5,${word},1,${word}\n`,
  'same-keys.csv': `${header}${word},a,1\n${word},b,2\n`,
  'no-header.csv': `${word},1\n${word},2\n`,
  'open-quote.csv': `${header}6,"${word},30\n7,x,1\n`,
  'broken.json': `[{"id": 1, "customer": "${word}"}, {"id": 2, "customer": "${word}]`,
}

const step = (type: string, settings: object): string =>
  JSON.stringify({ pipeline_id: 'p', steps: [{ step_id: 'only', ps_type: type, retry: { attempts: 1 }, ...settings }] })
const load = (file: string, destination: object): string =>
  step('file.ingest', { source: { path: `in/${file}` }, destination })
const versions = { table: 'orders', mode: 'versioned', business_key: ['id'] }
const rows = (table: string): object => ({ table, mode: 'replace' })
const transform = (query: string): string => step('sql.transform', { query, destination: { table: 'made' } })
const write = (query: string): string =>
  step('file.export', { source: { query }, destination: { path: 'out/orders.csv', format: 'csv' } })
const send = (credential: string): string =>
  step('transfer.sftp_upload', {
    credential,
    source: { paths: ['out/orders.csv'] },
    destination: { directory: '.' },
  })
const rules = [
  { rule: 'format', column: 'customer', pattern: '^[0-9]+$' },
  { rule: 'range', column: 'amount', min: 0, max: 1 },
]

// What tenants do with rows, right and wrong, and what comes of it.
const attempts: [pipeline: string, outcome: string][] = [
  [load('orders.csv', versions), 'SUCCEEDED'],
  [load('orders.csv', rows('plain')), 'SUCCEEDED'],
  [step('quality.check', { table: 'plain', rules, fail_below: 1 }), 'FAILED QUALITY_BLOCKED'],
  [load('wrong-types.csv', versions), 'SUCCEEDED'],
  [load('wrong-columns.csv', versions), 'SUCCEEDED'],
  [load('same-keys.csv', versions), 'FAILED QUALITY_BLOCKED'],
  [load('same-keys.csv', { ...versions, delete_limit: 1 }), 'SUCCEEDED'],
  [load('no-header.csv', versions), 'FAILED SCHEMA_MISMATCH'],
  [load('open-quote.csv', rows('quotes')), 'SUCCEEDED'],
  [load('broken.json', rows('broken')), 'FAILED FILE_INVALID'],
  [transform('SELECT CAST(customer AS INTEGER) AS n FROM plain'), 'FAILED SQL_INVALID'],
  [transform("SELECT strptime(customer, '%Y-%m-%d') AS d FROM plain"), 'FAILED SQL_INVALID'],
  [transform('SELECT error(customer) AS e FROM plain'), 'FAILED SQL_INVALID'],
  [transform('SELECT customer::JSON AS j FROM plain'), 'FAILED SQL_INVALID'],
  [transform('SELECT customer::DECIMAL(3, 1) AS d FROM plain'), 'FAILED SQL_INVALID'],
  [transform("SELECT regexp_matches('x', customer || '(') AS r FROM plain"), 'FAILED SQL_INVALID'],
  [write('SELECT CAST(customer AS DATE) AS d FROM plain'), 'FAILED SQL_INVALID'],
  [write('SELECT * FROM plain'), 'SUCCEEDED'],
  [send('partner'), 'SUCCEEDED'],
  [send('wrong'), 'FAILED CREDENTIAL_REJECTED'],
  [
    step('db.ingest', { credential: 'nowhere', source: { query: 'SELECT 1' }, destination: rows('none') }),
    'FAILED CONNECTION_FAILED',
  ],
]

test('no value of a row and no secret gets into the metadata, whatever goes wrong with the data', async () => {
  await using w = await world()
  await using far = await hostileSftp()
  const t = await onboard(w.house, 'canary_keeper')
  await t.credential('partner', 'sftp', far.secret)
  await t.credential('wrong', 'sftp', { ...far.secret, password: secretCanary('that-is-wrong') })
  const login = { host: '127.0.0.1', port: 1, database: 'd', user: 'u', password: secretCanary('for-nowhere') }
  await t.credential('nowhere', 'postgres', login)
  for (const [name, content] of Object.entries(files)) await t.put(`in/${name}`, content)

  const shown: string[] = []
  for (const [index, [pipeline, outcome]] of attempts.entries()) {
    await t.save(`test/canaries/p${index}`, pipeline)
    const run = await t.run(`test/canaries/p${index}`)
    expect([pipeline, [run.state, run.error?.code].join(' ').trim()]).toEqual([pipeline, outcome])
    if (finds(Buffer.from(JSON.stringify(run))).length > 0) shown.push(`${pipeline}: ${run.error?.message}`)
  }
  expect(shown).toEqual([])
  expect(finds(Buffer.from(await dumpOf(w.house.ports.db)))).toEqual([])
  expect((await far.content('orders.csv')).toString()).toContain(word)
})
