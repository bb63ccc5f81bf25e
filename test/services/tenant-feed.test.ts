import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apiKey } from '../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import { cancelRun, startRun } from '../../shared/runs/ledger.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { migratePg, openPg, type OpenDb } from '../../workers/db/pg.ts'
import { type ControlPlane, controlPlane, hintsAlone, until } from '../support/control-plane.ts'
import { makeTenant } from '../support/database.ts'
import { ownedDatabase, startPostgres } from '../support/postgres.ts'
import { plannedRun, plannedStep } from '../support/runs.ts'

const postgres = await startPostgres()
const left = 'skipped' in postgres ? postgres.skipped : undefined

// The embedded database does one transaction after the other; here they truly overlap.
describe.skipIf(left !== undefined)(
  `a tenant's stream on a server${left === undefined ? '' : `, left out: ${left}`}`,
  () => {
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

    test('an event of a transaction that began first and ended last slips in behind nobody', async () => {
      const { db } = opened
      const { tenantId, pipelineId } = await makeTenant(db)
      const { id, token, secretHash } = await makeApiKey()
      await withTenant(db, { tenantId, side: 'api' }, (tx) =>
        tx.insert(apiKey).values({ tenantId, id, name: 'test', secretHash, scopes: ['runs:read'], createdBy: 'test' }),
      )
      const inTenant = (work: (tx: Tx) => Promise<unknown>) => withTenant(db, { tenantId, side: 'api' }, work)
      const start = (runId: string): Promise<unknown> =>
        inTenant((tx) => startRun(tx, plannedRun(pipelineId, [plannedStep('only')], { runId })))

      const app = plane.appWith({}, { db, hub: hintsAlone(plane.ports.hub) })
      const query = 'subscription { tenantEvents(after: "now") { runId event { seq type } } }'
      const leaving = new AbortController()
      const response = await app.fetch(
        new Request('http://edge.example/graphql', {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            accept: 'text/event-stream',
            authorization: `Bearer ${token}`,
          },
          body: JSON.stringify({ query }),
          signal: leaving.signal,
        }),
      )
      let text = ''
      const reading = (async () => {
        for await (const chunk of (response.body ?? new ReadableStream()).pipeThrough(new TextDecoderStream()))
          text += chunk
      })().catch(() => undefined)
      const seen = (): string[] => [...text.matchAll(/"runId":"(run_\w+)"/g)].map(([, runId]) => runId ?? '')

      const [slow, quick] = [newId('run'), newId('run')]
      await start(slow)
      plane.ports.hub.notify({ tenantId })
      await until('the first run is seen', () => seen().includes(slow))
      const shown = seen().length
      const committing = Promise.withResolvers<void>()
      const written = Promise.withResolvers<void>()
      const cancelling = inTenant(async (tx) => {
        await cancelRun(tx, { runId: slow, reason: 'test', actor: 'key:test', requestId: null })
        written.resolve()
        await committing.promise
      })
      try {
        await written.promise
        await start(quick)
        plane.ports.hub.notify({ tenantId })
        // It is committed, and yet it waits: its predecessor would come behind it. A look takes milliseconds.
        await new Promise((resolve) => setTimeout(resolve, 300))
        expect(seen()).toHaveLength(shown)
      } finally {
        committing.resolve()
        await cancelling
      }
      // Nobody hints again, and the next look without one is far away: who holds something back looks again by itself.
      await until('both are seen', () => seen().includes(quick))
      expect([...new Set(seen().slice(shown))]).toEqual([slow, quick])
      leaving.abort()
      await reading
    })
  },
)
