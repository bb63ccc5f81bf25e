import { getOperationAST, parse, validate } from 'graphql'
import { createYoga } from 'graphql-yoga'
import { createApp } from '../../control-plane/app.ts'
import { authenticateKey } from '../../control-plane/auth/api-key.ts'
import { costOf } from '../../control-plane/graphql/cost.ts'
import { cursorsOf } from '../../control-plane/graphql/cursor.ts'
import { faultOfSize } from '../../control-plane/graphql/limits.ts'
import { schema } from '../../control-plane/graphql/schema.ts'
import { readPost } from '../../control-plane/http/read-params.ts'
import { writeJson } from '../../control-plane/http/write-json.ts'
import { tenantScopes } from '../../schema/roles.ts'
import { apiKey, pipeline } from '../../schema/tables/index.ts'
import { systemClock } from '../../shared/clock.ts'
import { type Db, withTenant } from '../../shared/db/db.ts'
import { newId } from '../../shared/ids.ts'
import type { Ports } from '../../shared/ports.ts'
import { inProcessRateLimit } from '../../shared/rate-limit.ts'
import { makeApiKey } from '../../shared/secrets/api-key.ts'
import { secretBox } from '../../shared/secrets/secret-box.ts'
import { signingKeys } from '../../shared/secrets/signing-keys.ts'
import { inProcessHub } from '../../shared/waking/hub.ts'
import { inProcessWaker } from '../../shared/waking/waker.ts'
import { migrationsFolder } from '../../standalone/ports.ts'
import { makeTenant, memoryDatabase } from '../../test/support/database.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { migratePg, openPg } from '../../workers/db/pg.ts'
import { result } from '../result.ts'
import { bareSchema, body, listed, question, rowsOfList, yogaOptions } from './question.ts'

const requestsPerRound = 40
const ratioMax = 3

/**
 * What a list costs by the API with all of its guards, beside the same rows from the same server library without any of
 * them, in one process and in turns, on a server and embedded; and what each guard costs by itself. Answers whether the
 * goal is met.
 */
export async function guards(rounds: number): Promise<boolean> {
  let isMet = true
  const postgres = await startPostgres()
  if ('skipped' in postgres) console.log(`without a server: ${postgres.skipped}`)
  else {
    await migratePg(postgres.url, migrationsFolder)
    const { db, close } = openPg(postgres.url)
    isMet = await measure('postgresql', db, rounds)
    await close()
    await postgres.stop()
  }
  const memory = await memoryDatabase()
  isMet = (await measure('embedded', memory.db, rounds)) && isMet
  await memory.close()
  return isMet
}

async function measure(engine: string, db: Db, rounds: number): Promise<boolean> {
  const { tenantId } = await makeTenant(db)
  const { id, token, secretHash } = await makeApiKey()
  await withTenant(db, { tenantId, side: 'api' }, async (tx) => {
    await tx
      .insert(apiKey)
      .values({ tenantId, id, name: 'bench', secretHash, scopes: [...tenantScopes], createdBy: 'x' })
    const paths = Array.from({ length: listed + 20 }, (_, i) => `bench/list/p${String(i).padStart(4, '0')}`)
    await tx
      .insert(pipeline)
      .values(
        paths.map((path) => ({ tenantId, id: newId('pipeline'), path, origin: 'tenant' as const, currentVersion: 1 })),
      )
  })
  const list = (tx: Db) => rowsOfList(tx, tenantId)

  const ports = portsOver(db)
  const guarded = createApp({
    ports: async () => ({ ports }),
    development: false,
    allowedOrigins: [],
    rateLimit: boundless(),
  })
  // The library with its defaults: no caller, no limits, no tenant.
  const bare = createYoga({ schema: bareSchema(() => list(db)), ...yogaOptions })
  const ask = async (server: { fetch(request: Request): Promise<Response> | Response }): Promise<void> => {
    const response = await server.fetch(requestOf(token))
    const { data } = await response.json()
    if (data.pipelines.nodes.length !== listed) throw new Error('the list is not whole')
  }
  const [ours, theirs] = await inTurns(rounds, [() => ask(guarded), () => ask(bare)])
  const name = `graphql.${engine}`
  result(`${name}.list`, ours, 'ms')
  result(`${name}.list-bare`, theirs, 'ms')
  const ok = result(`${name}.ratio`, ours / theirs, 'times', { op: '<=', value: ratioMax })
  await measureGuards(name, { db, ports, token, tenantId, list })
  return ok
}

type Setting = { db: Db; ports: Ports; token: string; tenantId: string; list: (tx: Db) => Promise<unknown[]> }

async function measureGuards(name: string, { db, ports, token, tenantId, list }: Setting): Promise<void> {
  const rows = await list(db)
  const parsed = parse(question)
  const operation = getOperationAST(parsed)
  if (!operation) throw new Error('the document has no operation')
  const answer = { data: { pipelines: { nodes: rows, pageInfo: {} } } }
  const limit = boundless()
  const buckets = [
    { kind: 'tenant', name: tenantId, pointsPerMinute: 1e9 },
    { kind: 'key', name: token, pointsPerMinute: 1e9 },
  ] as const
  const cursors = await cursorsOf({ auth: { tenantId }, ports }, ['pipelines', tenantId])
  const bound = (): Promise<unknown> => withTenant(db, { tenantId, side: 'api' }, (tx) => list(tx))
  const parts: Record<string, [with_: () => unknown, without?: () => unknown]> = {
    'key-lookup': [() => authenticateKey(ports, token)],
    'row-level-security-and-limits-of-statements': [bound, () => list(db)],
    'read-and-check-body': [() => readPost(requestOf(token), 262_144), () => requestOf(token).json()],
    'limits-of-a-new-document': [() => faultOfSize(parsed)],
    'parse-and-validate-a-new-document': [() => validate(schema, parse(question))],
    cost: [() => costOf(schema, operation, new Map(), { first: listed })],
    'rate-limits': [() => limit.take([buckets[0], buckets[1]], 1)],
    'cursor-of-a-page': [() => cursors.at(['bench/list/p0000', 'pip_x'])],
    'write-and-measure': [() => writeJson(answer), () => JSON.stringify(answer)],
  }
  for (const [part, [guarded, bare = () => undefined]] of Object.entries(parts)) {
    const [spent = 0, free = 0] = await inTurns(10, [
      async () => void (await guarded()),
      async () => void (await bare()),
    ])
    result(`${name}.guard.${part}`, 1000 * (spent - free), 'µs')
  }
}

// Medians over the rounds of the milliseconds of one call, both called in turns so that the load of the machine hits both alike.
async function inTurns(
  count: number,
  works: readonly [() => Promise<void>, () => Promise<void>],
): Promise<[number, number]> {
  const spent: [number[], number[]] = [[], []]
  for (let round = -3; round < count; round++) {
    for (const [index, work] of works.entries()) {
      const started = performance.now()
      for (let i = 0; i < requestsPerRound; i++) await work()
      if (round >= 0) spent[index]?.push((performance.now() - started) / requestsPerRound)
    }
  }
  const median = (times: number[]): number => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0
  return [median(spent[0]), median(spent[1])]
}

function requestOf(token: string): Request {
  return new Request('http://bench.example/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body,
  })
}

// As the API has it, but for a limit that a bench would reach.
function boundless() {
  const limit = inProcessRateLimit(systemClock)
  return {
    isOfProcess: true,
    take: (buckets: Parameters<typeof limit.take>[0], points: number) => {
      const [first, ...others] = buckets
      const wide = <B extends object>(bucket: B) => ({ ...bucket, pointsPerMinute: 1e9 })
      return limit.take([wide(first), ...others.map(wide)], points)
    },
  }
}

function portsOver(db: Db): Ports {
  const keys = { current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }
  const quiet = (): void => undefined
  return {
    db,
    secrets: secretBox(keys),
    signing: signingKeys(keys),
    waker: inProcessWaker(),
    hub: inProcessHub(),
    clock: systemClock,
    log: { info: quiet, warn: quiet, error: quiet },
  }
}
