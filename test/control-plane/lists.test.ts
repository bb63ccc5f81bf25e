import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let b: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  b = await plane.tenant()
  for (let i = 0; i < 7; i++) await credential(`c${i}`)
  for (const path of ['x/y/a', 'x/y/b', 'x/y/c'])
    await plane.query('mutation ($input: SavePipelineInput!) { savePipeline(input: $input) { created } }', {
      token: a.token,
      variables: {
        input: {
          path,
          yaml: 'pipeline_id: p\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n',
        },
      },
    })
  for (let i = 0; i < 5; i++)
    await plane.query('mutation { runPipeline(input: { pipeline: "x/y/a" }) { created } }', { token: a.token })
})
afterAll(() => plane[Symbol.asyncDispose]())

const credential = (name: string) =>
  plane.query(
    `mutation { createCredential(input: { name: "${name}", provider: "sftp", secret: { host: "h", username: "u", password: "p" } }) { errors { code } } }`,
    {
      token: a.token,
    },
  )

// Lists, how to select an item, and in which field of the answer they stand.
const lists: [string, string, string][] = [
  ['credentials', 'name', ''],
  ['pipelines', 'path', ''],
  ['runs', 'id', ''],
  ['auditLog', 'id', ''],
]

describe('walking a list page by page gives every item once, in order', () => {
  test.each(lists)('%s', async (list, field) => {
    const page = async (args: string): Promise<Loose> =>
      (
        await plane.query(
          `{ ${list}(${args}) { nodes { ${field} } edges { cursor } pageInfo { hasNextPage hasPreviousPage endCursor } } }`,
          a,
        )
      ).data[list]
    const items = ({ nodes }: Loose): string[] => nodes.map((node: Loose) => node[field])
    const all = items(await page('first: 100'))
    expect(all.length).toBeGreaterThan(2)
    const walked: string[] = []
    let after = ''
    for (let more = true; more;) {
      const next = await page(`first: 2${after}`)
      expect(next.pageInfo.hasPreviousPage).toBe(after !== '')
      expect(next.pageInfo.endCursor).toBe(next.edges.at(-1).cursor)
      walked.push(...items(next))
      after = `, after: "${next.pageInfo.endCursor}"`
      more = next.pageInfo.hasNextPage
    }
    expect(walked).toEqual(all)
  })
})

test('events and log lines of a run are walked by their numbers', async () => {
  const { data } = await plane.query(
    '{ runs(first: 1) { nodes { id events(first: 1) { nodes { seq } pageInfo { endCursor hasNextPage } } } } }',
    a,
  )
  const [run] = data.runs.nodes
  expect(run.events).toMatchObject({ nodes: [{ seq: 1 }], pageInfo: { hasNextPage: false } })
  const rest = await plane.query(
    `{ run(id: "${run.id}") { events(after: "${run.events.pageInfo.endCursor}") { nodes { seq } } } }`,
    a,
  )
  expect(rest.data.run.events.nodes).toEqual([])
  const asLogs = await plane.query(
    `{ run(id: "${run.id}") { logs(after: "${run.events.pageInfo.endCursor}") { nodes { seq } } } }`,
    a,
  )
  expect(asLogs.errors[0]?.extensions.code).toBe('BAD_CURSOR')
})

test('rows that come while paging neither repeat nor hide others', async () => {
  const read = (args: string): Promise<Loose> =>
    plane.query(`{ runs(${args}) { nodes { id } pageInfo { endCursor } } }`, a).then(({ data }) => data.runs)
  const first = await read('first: 2')
  await plane.query('mutation { runPipeline(input: { pipeline: "x/y/b" }) { created } }', a)
  const second = await read(`first: 2, after: "${first.pageInfo.endCursor}"`)
  const ids = [...first.nodes, ...second.nodes].map(({ id }: Loose) => id)
  expect(new Set(ids).size).toBe(4)
  const all = (await read('first: 100')).nodes.map(({ id }: Loose) => id)
  expect(all.slice(1, 5)).toEqual(ids)
})

describe('a cursor of anything else is refused', () => {
  test('another list, another filter, another tenant, forged, broken', async () => {
    const cursorOf = async (query: string, list: string): Promise<string> =>
      (await plane.query(`{ ${query} { pageInfo { endCursor } } }`, a)).data[list].pageInfo.endCursor
    const ofRuns = await cursorOf('runs(first: 1)', 'runs')
    const ofAudit = await cursorOf('auditLog(first: 1)', 'auditLog')
    const forged = (parts: unknown): string => btoa(JSON.stringify(parts)).replaceAll('=', '')
    const tag = ofAudit.split('.')[1]
    const cases: [string, string, { token: string }][] = [
      ['credentials', ofRuns, a],
      ['runs(filter)', ofRuns, a],
      ['runs', ofRuns, b],
      ['runs', 'nonsense', a],
      ['runs', forged({}), a],
      ['runs', forged(['a', 'b', 'c']), a],
      ['auditLog', `${forged(['k1', '9999-99-99T99:99:99.000000Z', 'x'])}.${tag}`, a],
      ['auditLog', `${forged(['k1', "' or true", 'x'])}.${tag}`, a],
    ]
    for (const [list, cursor, by] of cases) {
      const field =
        list === 'runs(filter)'
          ? `runs(filter: { states: [QUEUED] }, after: "${cursor}")`
          : `${list}(after: "${cursor}")`
      const answer = await plane.query(`{ ${field} { nodes { id } } }`, by)
      expect([list, cursor, answer.errors[0]?.extensions.code]).toEqual([list, cursor, 'BAD_CURSOR'])
    }
  })
})

test('a page has 1 to 100 items, 25 by default', async () => {
  for (let i = 0; i < 23; i++)
    await plane.query('mutation { runPipeline(input: { pipeline: "x/y/a" }) { created } }', a)
  expect((await plane.query('{ runs { nodes { id } } }', a)).data.runs.nodes).toHaveLength(25)
  for (const first of [0, -1, 101])
    expect((await plane.query(`{ runs(first: ${first}) { nodes { id } } }`, a)).errors[0]?.extensions.code).toBe(
      'BAD_INPUT',
    )
})

test('filters narrow a list', async () => {
  const count = async (query: string, list: string): Promise<number> =>
    (await plane.query(`{ ${query} { nodes { id } } }`, a)).data[list].nodes.length
  expect(await count('runs(filter: { pipeline: "x/y/b" })', 'runs')).toBe(1)
  expect(await count('runs(filter: { states: [SUCCEEDED] })', 'runs')).toBe(0)
  expect(await count('runs(filter: { createdBefore: "2020-01-01T00:00:00Z" })', 'runs')).toBe(0)
  expect(await count('auditLog(filter: { action: "credential.created" })', 'auditLog')).toBe(7)
})

test('another tenant sees none of it, and a foreign id is a missing id, byte by byte', async () => {
  const own = (await plane.query('{ runs(first: 1) { nodes { id } } auditLog(first: 1) { nodes { id } } }', a)).data
  const seen = await plane.query(
    '{ runs { nodes { id } } pipelines { nodes { id } } credentials { nodes { id } } auditLog { nodes { id } } }',
    b,
  )
  for (const list of Object.values(seen.data) as Loose[]) expect(list.nodes).toEqual([])
  const same = async (document: (id: string) => string, real: string, missing: string): Promise<void> => {
    const [foreign, none] = await Promise.all([real, missing].map((id) => plane.query(document(id), b)))
    const bare = (text: string | undefined): string => (text ?? '').replaceAll(/req_[0-9a-f]+/g, 'req')
    expect(bare(foreign?.text)).toBe(bare(none?.text))
    expect(foreign?.text).toContain('NOT_FOUND')
  }
  const run = own.runs.nodes[0].id
  const noRun = `run_${'0'.repeat(32)}`
  await same((id) => `{ run(id: "${id}") { id steps { key } } }`, run, noRun)
  await same((id) => `{ tenant(id: "${id}") { name } }`, a.id, 'no_such_tenant')
  await same(
    (id) => `mutation { cancelRun(input: { id: "${id}" }) { run { id } errors { code message hint } } }`,
    run,
    noRun,
  )
  await same(
    (id) => `mutation { retryRun(input: { id: "${id}" }) { run { id } errors { code message hint } } }`,
    run,
    noRun,
  )
  await same(
    (path) => `mutation { runPipeline(input: { pipeline: "${path}" }) { run { id } errors { code message hint } } }`,
    'x/y/a',
    'x/y/zz',
  )
})

test('the platform reads the profile of any tenant, and nothing of its work', async () => {
  const { data } = await plane.query(
    `{ tenant(id: "${a.id}") { id companyName users { nodes { email } } apiKeys { nodes { name } } } }`,
    {
      token: plane.platformToken,
    },
  )
  expect(data.tenant).toMatchObject({ id: a.id, users: { nodes: [] } })
  const work = await plane.query('{ runs { nodes { id } } }', { token: plane.platformToken })
  expect(work.errors[0]?.extensions.code).toBe('FORBIDDEN')
})
