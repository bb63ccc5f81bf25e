import { edgeHouse } from '../test/edge/house.ts'
import { onWorkerd, type Runtime, workerd } from '../test/edge/runtimes.ts'
import { result } from './result.ts'

// The first request to a fresh isolate of workerd, with a key that nobody has looked up yet: the database is asked over
// HTTP through the stand-in for Neon on this machine. Beside it the first request to an isolate that does nothing: what
// the way there and back takes here.
const isolates = Number(process.argv[2] ?? 15)
const goalMs = 60
const nothing = 'export default { fetch: () => new Response("nothing") }'

const house = await edgeHouse()
if ('skipped' in house) throw new Error(`no bench without PostgreSQL: ${house.skipped}`)
// Redis would remember the key of an earlier isolate.
const { UPSTASH_REDIS_REST_URL: _url, UPSTASH_REDIS_REST_TOKEN: _token, ...variables } = house.variables
const { token } = house

const times: Record<'bare' | 'started' | 'first' | 'second', number[]> = {
  bare: [],
  started: [],
  first: [],
  second: [],
}
async function timed<T>(kind: keyof typeof times, work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  const done = await work()
  times[kind].push(performance.now() - begun)
  return done
}

async function ask({ url }: Runtime): Promise<void> {
  const response = await fetch(`${url}/graphql`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{"query":"{ viewer { tenantId } }"}',
  })
  const text = await response.text()
  if (!text.includes('"data":{"viewer":{"tenantId":"edge_tenant"}}')) throw new Error(`no answer: ${text}`)
}

try {
  for (let n = 0; n < isolates; n++) {
    {
      await using bare = await workerd(nothing, {})
      await timed('bare', async () => (await fetch(bare.url)).text())
    }
    await using runtime = await timed('started', () => onWorkerd(variables))
    await timed('first', () => ask(runtime))
    await timed('second', () => ask(runtime))
  }
} finally {
  await house[Symbol.asyncDispose]()
}
const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Infinity
result('bare_first_request_p50', median(times.bare), 'ms')
result('isolate_start_p50', median(times.started), 'ms')
result('second_request_p50', median(times.second), 'ms')
process.exitCode = result('first_request_p50', median(times.first), 'ms', { op: '<=', value: goalMs }) ? 0 : 1
