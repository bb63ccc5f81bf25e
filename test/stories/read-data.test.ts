import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Loose } from '../support/control-plane.ts'
import { type TestTenant, world } from '../support/world.ts'

let w: Awaited<ReturnType<typeof world>>
let a: TestTenant
let b: TestTenant
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

async function put(tenant: TestTenant, csv: string): Promise<void> {
  await tenant.put('in/customers.csv', csv)
  const run = await tenant.run('crm/customers/load')
  expect(run.error).toBe(null)
  runs.push(run.id)
}
const ask = async (tenant: TestTenant, query: string, variables: Record<string, unknown> = {}): Promise<Loose> =>
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
