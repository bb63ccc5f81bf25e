import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowsOf } from '../../shared/db/db.ts'
import type { Loose } from '../support/control-plane.ts'
import { type OpenTenant, world } from '../support/world.ts'

let w: Awaited<ReturnType<typeof world>>
let a: OpenTenant
let b: OpenTenant
const runs: string[] = []
const load = `pipeline_id: customers
steps:
  - step_id: load
    ps_type: file.ingest
    source: { path: in/customers.csv }
    destination: { table: customers, business_key: [id] }
`
beforeAll(async () => {
  w = await world()
  a = await w.tenant('reader_a')
  b = await w.tenant('reader_b')
  for (const tenant of [a, b]) await tenant.save('crm/customers/load', load)
  await put(a, 'id,name,town\n1,Ada,Rome\n2,Bob,Oslo\n3,Cyd,Lima\n')
  await put(a, 'id,name,town\n1,Ada,Paris\n2,Bob,Oslo\n4,Dee,Bern\n')
})
afterAll(() => w[Symbol.asyncDispose]())

async function put(tenant: OpenTenant, csv: string): Promise<void> {
  await tenant.put('in/customers.csv', csv)
  const run = await tenant.run('crm/customers/load')
  expect(run.error).toBe(null)
  runs.push(run.id)
}
const ask = async (tenant: OpenTenant, query: string, variables: Record<string, unknown> = {}): Promise<Loose> =>
  tenant.client.request(query, variables)

test('the history of a record says what it was, who changed it, by which run, and from which file', async () => {
  const { recordHistory } = await ask(
    a,
    `{ recordHistory(table: "customers", key: { id: 1 }) { nodes { version previousVersion changeType changedFields
        changedBy changedAt runId stepKey sourceFile loadNumber dataHash previousDataHash values } } }`,
  )
  const [second, first] = recordHistory.nodes
  expect(recordHistory.nodes).toHaveLength(2)
  expect(first).toMatchObject({
    version: 1,
    previousVersion: null,
    changeType: 'INSERT',
    runId: runs[0],
    loadNumber: 1,
  })
  expect(second).toMatchObject({
    version: 2,
    previousVersion: 1,
    changeType: 'UPDATE',
    changedFields: ['town'],
    runId: runs[1],
    stepKey: 'load',
    sourceFile: 'in/customers.csv',
    previousDataHash: first.dataHash,
    values: { name: 'Ada', town: 'Paris' },
  })
  expect(second.changedBy).toMatch(/^key:/)
})

test('rows are read page by page as they are, and as they were', async () => {
  const page = `($after: String, $load: BigInt, $at: DateTime) {
    tableRows(table: "customers", first: 2, after: $after, load: $load, at: $at) { nodes { compositeKey values } pageInfo { hasNextPage endCursor } } }`
  const first = (await ask(a, `query ${page}`)).tableRows
  expect(first.pageInfo.hasNextPage).toBe(true)
  const rest = (await ask(a, `query ${page}`, { after: first.pageInfo.endCursor })).tableRows
  const names = (...pages: Loose[]): string[] =>
    pages.flatMap(({ nodes }) => nodes.map((row: Loose) => row.values.name))
  expect(names(first, rest).sort()).toEqual(['Ada', 'Bob', 'Dee'])
  expect(rest.pageInfo.hasNextPage).toBe(false)
  const then = (await ask(a, `query ${page}`, { load: 1 })).tableRows
  const more = (await ask(a, `query ${page}`, { load: 1, after: then.pageInfo.endCursor })).tableRows
  expect(names(then, more).sort()).toEqual(['Ada', 'Bob', 'Cyd'])
})

test('the change log is filtered by time, kind and person, and goes page by page', async () => {
  const query = `query ($types: [String!], $since: DateTime, $until: DateTime, $by: String, $first: Int, $after: String) {
    changeLog(table: "customers", changeTypes: $types, since: $since, until: $until, changedBy: $by, first: $first, after: $after) {
      nodes { compositeKey version changeType changedAt changedBy values } pageInfo { hasNextPage endCursor } } }`
  const log = async (variables: Record<string, unknown>): Promise<Loose> => (await ask(a, query, variables)).changeLog
  const all = (await log({})).nodes
  expect(all.map((row: Loose) => `${row.changeType} ${row.values.name}`).sort()).toEqual([
    'DELETE Cyd',
    'INSERT Ada',
    'INSERT Bob',
    'INSERT Cyd',
    'INSERT Dee',
    'UPDATE Ada',
  ])
  const second: string = all[0].changedAt
  expect((await log({ since: second })).nodes).toHaveLength(3)
  expect((await log({ until: second })).nodes).toHaveLength(3)
  expect((await log({ types: ['UPDATE', 'DELETE'] })).nodes).toHaveLength(2)
  expect((await log({ by: all[0].changedBy })).nodes).toHaveLength(6)
  expect((await log({ by: 'nobody' })).nodes).toEqual([])
  const seen: Loose[] = []
  for (let after: string | null = null; ;) {
    const { nodes, pageInfo }: Loose = await log({ first: 2, after })
    seen.push(...nodes)
    if (!pageInfo.hasNextPage) break
    after = pageInfo.endCursor
  }
  expect(seen).toEqual(all)
})

test('reports say who changed how much, what changes most, how good it was, and where it came from', async () => {
  await a.save(
    'crm/customers/count',
    `pipeline_id: count
steps:
  - step_id: count
    ps_type: sql.transform
    query: "SELECT town, count(*) AS n FROM customers GROUP BY town"
    destination: { table: towns, mode: replace }
`,
  )
  expect((await a.run('crm/customers/count')).error).toBe(null)
  const data = await ask(
    a,
    `{ userActivity(table: "customers", per: MONTH) { nodes { changedBy inserted updated deleted records } }
       records: changeFrequency(table: "customers") { nodes { name changes users } }
       fields: changeFrequency(table: "customers", of: FIELD) { nodes { name changes } }
       qualityTrend(table: "customers") { nodes { runId stepKey score rowCount checks failed } }
       lineage(table: "towns") { nodes { targetColumn sourceTable sourceColumn relation stepKey } }
       tables { nodes { name kind businessKey rowCount loadNumber columns { name type } } } }`,
  )
  const [month, ...months] = data.userActivity.nodes
  expect(months).toEqual([])
  expect(month).toMatchObject({ inserted: 4, updated: 1, deleted: 1, records: 4 })
  expect(data.records.nodes.map((row: Loose) => row.changes)).toEqual([2, 2, 1, 1])
  expect(data.fields.nodes).toEqual([{ name: 'town', changes: 1 }])
  expect(data.qualityTrend.nodes).toEqual(
    runs.toReversed().map((runId) => ({ runId, stepKey: 'load', score: 1, rowCount: 3, checks: 3, failed: 0 })),
  )
  expect(data.lineage.nodes).toContainEqual(
    expect.objectContaining({ targetColumn: 'town', sourceColumn: 'town', relation: 'copied', stepKey: 'count' }),
  )
  expect(data.tables.nodes.map((row: Loose) => [row.name, row.kind, row.rowCount])).toEqual([
    ['customers', 'versioned', 3],
    ['towns', 'plain', 3],
  ])
  expect(data.tables.nodes[0]).toMatchObject({ businessKey: ['id'], loadNumber: 2 })
  expect(data.tables.nodes[0].columns.map((column: Loose) => column.name)).toEqual(['id', 'name', 'town'])
})

// The code and the words of a refusal, as bytes.
async function refusal(tenant: OpenTenant, query: string, token = tenant.token): Promise<string> {
  const response = await fetch(`${w.house.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query }),
  })
  return (await response.text()).replaceAll(/req_[0-9a-f]+/g, 'req')
}

test('a table of another tenant is answered as one that nobody has', async () => {
  for (const field of [
    'tableRows(table: "T")',
    'recordHistory(table: "T", key: { id: 1 })',
    'changeLog(table: "T")',
    'userActivity(table: "T")',
    'changeFrequency(table: "T")',
    'qualityTrend(table: "T")',
    'lineage(table: "T")',
  ]) {
    const ask = (table: string): Promise<string> =>
      refusal(b, `{ ${field.replace('"T"', `"${table}"`)} { __typename } }`)
    const foreign = await ask('customers')
    expect(foreign).toContain('"NOT_FOUND"')
    expect(foreign).toBe(await ask('nobodyhas'))
  }
  expect((await ask(b, '{ tables { nodes { name } } }')).tables.nodes).toEqual([])
  const missing = await refusal(a, '{ recordHistory(table: "customers", key: { id: 99 }) { __typename } }')
  expect(missing).toContain('There is no such record.')
})

test('whoever may run pipelines and not read data is refused, and every read stands in the log without what was read', async () => {
  const { createApiKey } = await ask(
    a,
    'mutation { createApiKey(input: { name: "runner", role: POWER_USER }) { token errors { message } } }',
  )
  expect(await refusal(a, '{ tables { __typename } }', createApiKey.token)).toContain('"FORBIDDEN"')
  await ask(a, '{ recordHistory(table: "customers", key: { id: 2 }) { nodes { values } } }')
  const { auditLog } = await ask(
    a,
    '{ auditLog(filter: { action: "data.read" }, first: 1) { nodes { action target actor details } } }',
  )
  expect(auditLog.nodes[0]).toMatchObject({ action: 'data.read', target: 'customers', details: { what: 'versions' } })
  const rows = await rowsOf(w.house.ports.db, sql`select string_agg(e::text, '') as text from app.audit_event e`)
  for (const value of ['Ada', 'Oslo', 'org_reader_a']) expect(JSON.stringify(rows)).not.toContain(value)
})

test('a cursor of one question is no cursor of another, nor of another tenant', async () => {
  const page = (await ask(a, '{ tableRows(table: "customers", first: 1) { pageInfo { endCursor } } }')).tableRows
  const after = JSON.stringify(page.pageInfo.endCursor)
  const asks: [OpenTenant, string][] = [
    [a, `{ tableRows(table: "customers", load: 1, after: ${after}) { __typename } }`],
    [a, `{ changeLog(table: "customers", after: ${after}) { __typename } }`],
    [b, `{ tableRows(table: "customers", after: ${after}) { __typename } }`],
  ]
  for (const [tenant, query] of asks) expect(await refusal(tenant, query)).toContain('"BAD_CURSOR"')
})

test('a table goes back to a load by a template, once per key, and its history says so', async () => {
  const parameters = { table: 'customers', load: 1 }
  const rehearsal = await a.run('lake/tables/restore', { ...parameters, dry_run: true })
  expect(rehearsal.steps[0]?.outputs).toMatchObject({ inserted: 1, updated: 1, deleted: 1 })
  const [first, again] = [
    await a.start('lake/tables/restore', parameters, 'back'),
    await a.start('lake/tables/restore', parameters, 'back'),
  ]
  expect(again).toBe(first)
  expect((await a.ended(first)).error).toBe(null)
  const { tableRows, recordHistory } = await ask(
    a,
    `{ tableRows(table: "customers") { nodes { values } }
       recordHistory(table: "customers", key: { id: 1 }) { nodes { version runId values } } }`,
  )
  expect(tableRows.nodes.map((row: Loose) => row.values.name).sort()).toEqual(['Ada', 'Bob', 'Cyd'])
  expect(recordHistory.nodes[0]).toMatchObject({ version: 3, runId: first, values: { town: 'Rome' } })
})

test('a load that runs holds up no read, and what it has not committed is not seen', async () => {
  await a.save(
    'crm/customers/slow',
    `pipeline_id: slow
steps:
  - step_id: slow
    ps_type: sql.transform
    query: "SELECT sum(hash(x.i) % 7) AS n FROM range(4000000000) x(i)"
    destination: { table: slow, mode: replace }
`,
  )
  const run = await a.start('crm/customers/slow')
  await a.event(run, 'step.started', 'slow')
  const read = (await ask(a, '{ tableRows(table: "customers") { nodes { values } } }')).tableRows
  expect(read.nodes).toHaveLength(3)
  expect((await a.see(run)).state).toBe('RUNNING')
  expect(await refusal(a, '{ tableRows(table: "slow") { __typename } }')).toContain('"NOT_FOUND"')
  await a.cancel(run)
  await a.ended(run)
})

test('a tenant has eight reads at once, and one that is stuck holds up no other tenant', async () => {
  await ask(a, '{ tables { nodes { name } } }')
  const { worker } = w.house
  const pid = worker.pool.pids().get('reader_a') ?? 0
  const read = (tenantId: string): Promise<unknown[]> =>
    worker.read({ tenantId, operation: 'tables', table: '', arguments: { limit: 5 } }, AbortSignal.timeout(30_000))
  process.kill(pid, 'SIGSTOP')
  const eight = Array.from({ length: 8 }, () => read('reader_a'))
  try {
    await expect(read('reader_a')).rejects.toMatchObject({ code: 'UNAVAILABLE', retry: 'later' })
    expect(await read('reader_b')).toEqual([])
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  for (const rows of await Promise.all(eight)) expect(rows).toHaveLength(2)
  expect(await read('reader_a')).toHaveLength(2)
})
