import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { createApp } from '../../control-plane/app.ts'
import { createPlatform } from '../../control-plane/tenants/bootstrap.ts'
import { rowsOf } from '../../shared/db/db.ts'
import type { Log } from '../../shared/log.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { serveHttp } from '../../standalone/http-server.ts'
import { openPorts } from '../../standalone/ports.ts'
import { startWorker } from '../../workers/worker.ts'
import { leave } from '../support/keep.ts'
import { type Loose, until } from '../support/control-plane.ts'
import { onboard, openTenant } from '../support/world.ts'

const yaml = `
pipeline_id: quick
steps:
  - step_id: only
    ps_type: sql.transform
    query: "SELECT 1 AS n"
    destination: { table: quick, mode: replace }
`

test('a worker that starts first on a fresh database needs nobody’s token, and never meets one', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'fresh-'))
  const opened = await openPorts(dataDir, 'silent')
  const logged: string[] = []
  const note = (event: string, fields?: Record<string, unknown>): void =>
    void logged.push(JSON.stringify({ event, ...fields }))
  const log: Log = { info: note, warn: note, error: note }
  const ports = { ...opened.ports, log }
  const worker = startWorker(ports, { dataDir, allowPrivateNetwork: true })
  await until('the worker is seen', async () => (await rowsOf(ports.db, sql`select 1 from app.worker`)).length > 0)

  const platform = await makeApiKey()
  await createPlatform(ports, platform.token)
  const server = await serveHttp(
    createApp({
      ports: async () => ({ ports }),
      development: false,
      allowedOrigins: [],
      sessionsRunPersistedOnly: false,
    }),
    {
      host: '127.0.0.1',
      port: 0,
      log,
    },
  )
  try {
    const house = { url: server.url, platformKey: platform.token, dataDir }
    const tenant = await onboard(house, 'fresh_tenant')
    const ask = async (document: string): Promise<Loose> => Object.values(await tenant.client.request(document))[0]
    const { user } = await ask(
      'mutation { createUser(input: { email: "ada@x.example", role: TENANT_ADMIN }) { user { id } } }',
    )
    const { link } = await ask(`mutation { inviteUser(input: { id: "${user.id}" }) { link } }`)
    const password = 'correct horse battery'
    const open = async (document: string): Promise<Loose> => {
      const response = await fetch(`${server.url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query: document }),
      })
      const { data }: Loose = await response.json()
      return data
    }
    await open(`mutation { activateAccount(input: { token: "${link}", password: "${password}" }) { isDone } }`)
    const { login } = await open(
      `mutation { login(input: { tenantId: "fresh_tenant", email: "ada@x.example", password: "${password}" }) { tokens { accessToken refreshToken } } }`,
    )
    await open(
      `mutation { requestPasswordReset(input: { tenantId: "fresh_tenant", email: "ada@x.example" }) { isDone } }`,
    )
    const ada = openTenant(house, 'fresh_tenant', login.tokens.accessToken)
    await ada.save('test/fresh/quick', yaml)
    expect((await ada.run('test/fresh/quick')).state).toBe('SUCCEEDED')

    const tables = ['pipeline_run', 'run_step', 'run_event', 'effect', 'outbox', 'worker', 'tenant_queue']
    const rows = await Promise.all(
      tables.map((name) => rowsOf(ports.db, sql`select to_jsonb(t)::text as row from app.${sql.identifier(name)} t`)),
    )
    const seen = JSON.stringify([rows, logged])
    expect(seen).toContain('user.reset')
    for (const secret of [login.tokens.accessToken, login.tokens.refreshToken, tenant.token, platform.token, link])
      expect(seen).not.toContain(String(secret).split('.').at(-1))
    // The forms of a token, a key, a refresh token and a link.
    expect(seen).not.toMatch(
      /eyJ[\w-]+\.[\w-]+\.|key_[0-9a-f]{32}\.[0-9a-f]|ref_[a-z0-9_]+\.ses_|(act|rst)_[a-z0-9_]+\.usr_/,
    )
    expect(logged.filter((line) => /UNAUTHENTICATED|FORBIDDEN|token/i.test(line))).toEqual([])
  } finally {
    await server.stop()
    await worker.stop(0)
    await opened.close()
    await leave(dataDir)
  }
})
