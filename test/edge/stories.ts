import { createRequire } from 'node:module'
import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest'
import { graphqlClient } from '../../standalone/client.ts'
import type { Loose } from '../support/control-plane.ts'
import { hostileSftp, type TestSftp } from '../support/hostile-sftp.ts'
import { onboard, type TestTenant } from '../support/world.ts'
import type { HouseKind, RunningHouse } from './houses.ts'

const orders = `
pipeline_id: orders
steps:
  - step_id: ingest
    ps_type: file.ingest
    source: { path: in/orders.csv }
    destination: { table: orders, mode: versioned, business_key: [id] }
  - step_id: export
    ps_type: file.export
    source: { query: "SELECT id, amount FROM orders ORDER BY id" }
    destination: { path: out/orders.csv, format: csv }
  - step_id: upload
    ps_type: transfer.sftp_upload
    credential: sftp
    source: { paths: [out/orders.csv] }
    destination: { directory: . }
`
const quick = `
pipeline_id: quick
steps:
  - step_id: one
    ps_type: sql.transform
    query: "SELECT 1 AS n"
    destination: { table: counted, mode: append }
  - step_id: two
    ps_type: sql.transform
    query: "SELECT 2 AS n"
    destination: { table: counted, mode: append }
`
const csv = 'id,amount\n1,10\n2,20\n3,30\n'
const events =
  'subscription ($runId: ID!, $after: Int) { runEvents(runId: $runId, after: $after) { seq type stepKey } }'

/** The part of `graphql-http` that is used; it lives with the edge's tools. */
type Audits = {
  serverAudits(options: { url: string; fetchFn: unknown }): {
    fn(): Promise<{ name: string; status: 'ok' | 'notice' | 'warn' | 'error' }>
  }[]
}
const audits = createRequire(import.meta.filename)('graphql-http') as Audits

/** The stories of a tenant, told through the public API alone: each must end alike in every kind of house. */
export function stories(kind: HouseKind): void {
  describe(`a house of ${kind.name}`, { timeout: 180_000 }, () => {
    let house: RunningHouse | undefined
    let skipped = ''
    let far: TestSftp
    let one: TestTenant & { token: string }
    let two: TestTenant & { token: string }
    let scheduleId = ''
    beforeAll(async () => {
      const opened = await kind.open()
      if ('skipped' in opened) return void (skipped = opened.skipped)
      house = opened
      far = await hostileSftp()
      one = await onboard(house, 'story_one', far)
      two = await onboard(house, 'story_two')
    }, 180_000)
    afterAll(async () => {
      await house?.[Symbol.asyncDispose]()
      await far?.[Symbol.asyncDispose]()
    })
    const inHouse =
      (tell: (at: RunningHouse) => Promise<void>) =>
      (context: TestContext): Promise<void> =>
        house ? tell(house) : context.skip(`left out: ${skipped}`)

    // First, so that the minute passes while the others are told.
    test(
      'a schedule is saved for every minute',
      inHouse(async () => {
        await two.save('story/quick/run', quick)
        const { upsertSchedule }: Loose = await two.client.request(
          'mutation { upsertSchedule(input: { pipeline: "story/quick/run", cron: "* * * * *" }) { schedule { id } errors { code message } } }',
        )
        expect(upsertSchedule.errors).toEqual([])
        scheduleId = upsertSchedule.schedule.id
      }),
    )

    test(
      'a tenant that was just onboarded runs a pipeline, and its file arrives whole',
      inHouse(async () => {
        await one.put('in/orders.csv', csv)
        await one.save('story/orders/daily', orders)
        const run = await one.run('story/orders/daily')
        expect(run).toMatchObject({ state: 'SUCCEEDED', error: null })
        expect((await far.content('orders.csv')).toString()).toBe(csv)
        expect((await far.names()).filter((name) => name.includes('.part'))).toEqual([])
        // The same again changes nothing, and delivers the same.
        expect((await one.run('story/orders/daily')).state).toBe('SUCCEEDED')
        expect(await one.rows('SELECT count(*) AS n, max(version) AS version FROM raw.orders')).toEqual([
          { n: 3, version: 1 },
        ])
        expect((await far.content('orders.csv')).toString()).toBe(csv)
      }),
    )

    test(
      'the rows of a lake are read where they are, as they are and as they were, and nobody else sees them',
      inHouse(async () => {
        const query = `{ tableRows(table: "orders", load: 1) { nodes { values } }
          recordHistory(table: "orders", key: { id: 2 }) { nodes { version changeType sourceFile values } }
          tables { nodes { name } } }`
        const seen: Loose = await one.client.request(query)
        expect(seen.tableRows.nodes.map((row: Loose) => row.values)).toEqual([
          { id: '1', amount: '10' },
          { id: '2', amount: '20' },
          { id: '3', amount: '30' },
        ])
        expect(seen.recordHistory.nodes).toEqual([
          { version: 1, changeType: 'INSERT', sourceFile: 'in/orders.csv', values: { id: '2', amount: '20' } },
        ])
        expect(seen.tables.nodes).toContainEqual({ name: 'orders' })
        await expect(two.client.request(query)).rejects.toThrow('NOT_FOUND: There is no such table.')
      }),
    )

    test(
      'a subscription that breaks goes on after its last event, without a gap and without a repeat',
      inHouse(async () => {
        await one.save('story/quick/run', quick)
        const runId = await one.start('story/quick/run')
        const seen: number[] = []
        for (let isOver = false; !isOver;) {
          // Two events and away, until one stream ends by itself.
          const leave = new AbortController()
          let taken = 0
          isOver = true
          for await (const data of one.client.subscribe(events, { runId, after: seen.at(-1) ?? 0 }, leave.signal)) {
            const event: Loose = data['runEvents']
            seen.push(event.seq)
            if (++taken === 2 && event.type !== 'run.succeeded') {
              isOver = false
              break
            }
          }
          leave.abort()
        }
        expect(seen.length).toBeGreaterThan(4)
        expect(seen).toEqual(seen.map((_, index) => index + 1))
      }),
    )

    test(
      'a stream of events is resumed by the header that browsers send',
      inHouse(async (at) => {
        const runId = await one.start('story/quick/run')
        await one.ended(runId)
        const response = await fetch(`${at.url}/graphql`, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${one.token}`,
            'content-type': 'application/json',
            accept: 'text/event-stream',
            'last-event-id': '3',
          },
          body: JSON.stringify({ query: events, variables: { runId } }),
        })
        const ids = [...(await response.text()).matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id))
        expect(ids[0]).toBe(4)
        expect(ids).toEqual(ids.map((_, index) => index + 4))
      }),
    )

    test(
      'a tenant stops its workers: what it starts waits, and runs once when they are started again',
      inHouse(async () => {
        const control = async (action: string): Promise<void> => {
          const { controlWorkers }: Loose = await one.client.request(
            'mutation ($input: ControlWorkersInput!) { controlWorkers(input: $input) { errors { code message } } }',
            { input: { action } },
          )
          expect(controlWorkers.errors).toEqual([])
        }
        const count = 'SELECT count(*) AS n FROM counted'
        const [before] = await one.rows(count)
        await control('STOP')
        const waiting = await one.start('story/quick/run')
        // Another tenant's work passes by.
        expect((await two.run('story/quick/run')).state).toBe('SUCCEEDED')
        expect((await one.see(waiting)).state).toBe('QUEUED')
        await control('START')
        expect((await one.ended(waiting)).state).toBe('SUCCEEDED')
        expect(await one.rows(count)).toEqual([{ n: before.n + 2 }])
      }),
    )

    test(
      'what belongs to another tenant looks as if it were not there',
      inHouse(async (at) => {
        const runId = await one.start('story/quick/run')
        await one.ended(runId)
        const missing = `run_${crypto.randomUUID().replaceAll('-', '')}`
        const said: string[] = []
        for (const id of [runId, missing]) {
          await expect(two.see(id)).rejects.toThrow('NOT_FOUND')
          await expect(two.cancel(id)).rejects.toThrow('NOT_FOUND')
          const watch = async (): Promise<void> => {
            for await (const _ of two.client.subscribe(events, { runId: id }));
          }
          said.push(await watch().then(String, String))
        }
        expect(said[0]).toContain('NOT_FOUND')
        expect(said[1]).toBe(said[0])
        const response = await fetch(`${at.url}/graphql`, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${two.token}`,
            'content-type': 'application/json',
            'x-tenant-id': 'story_one',
          },
          body: JSON.stringify({ query: '{ viewer { tenantId } }' }),
        })
        expect(response.status).toBe(403)
        await expect(graphqlClient(at.url, `${two.token}0`).request('{ viewer { tenantId } }')).rejects.toThrow(
          'UNAUTHENTICATED',
        )
      }),
    )

    test(
      'it answers HTTP as the specification of GraphQL says it must and should',
      inHouse(async (at) => {
        const asTenant = (url: string, init: RequestInit = {}): Promise<Response> => {
          const headers = new Headers(init.headers)
          headers.set('authorization', `Bearer ${one.token}`)
          return fetch(url, { ...init, headers })
        }
        const results = await Promise.all(
          audits.serverAudits({ url: `${at.url}/graphql`, fetchFn: asTenant }).map(({ fn }) => fn()),
        )
        expect(results.length).toBeGreaterThan(60)
        const failed = results.filter(({ status }) => status !== 'ok')
        // A document of one's own is taken by POST only.
        expect(failed.map(({ name }) => name)).toEqual([
          'MAY accept application/x-www-form-urlencoded formatted GET requests',
          'MAY allow URL-encoded JSON string {variables} parameter in GETs when accepting application/graphql-response+json',
          'MAY allow URL-encoded JSON string {variables} parameter in GETs when accepting application/json',
        ])
      }),
    )

    test(
      'the schedule has fired, once for its minute',
      inHouse(async () => {
        const fires = async (): Promise<Loose[]> => {
          const { schedule }: Loose = await two.client.request(
            'query ($id: ID!) { schedule(id: $id) { fires(first: 10) { nodes { fireAt run { id state } } } } }',
            { id: scheduleId },
          )
          return schedule.fires.nodes
        }
        const hasFired = async (): Promise<boolean> => (await fires()).some(({ run }) => run !== null)
        await expect.poll(hasFired, { timeout: 90_000, interval: 500 }).toBe(true)
        const all = await fires()
        expect(new Set(all.map(({ fireAt }) => fireAt)).size).toBe(all.length)
        const first = all.find(({ run }) => run !== null)
        expect((await two.ended(first.run.id)).state).toBe('SUCCEEDED')
      }),
    )
  })
}
