import { afterAll, beforeAll, expect, test } from 'vitest'
import { graphqlClient } from '../../standalone/client.ts'
import { until } from '../support/control-plane.ts'
import { type QStashSim, startQStashSim } from '../support/qstash-sim.ts'
import { type EdgeHouse, edgeHouse } from './house.ts'
import { onDeno, onWorkerd } from './runtimes.ts'

const wakeUrl = 'http://localhost:9/wake'
const tickUrl = 'http://localhost:9/tick'

let house: EdgeHouse | undefined
let sim: QStashSim
let skipped = ''
beforeAll(async () => {
  sim = await startQStashSim()
  const opened = await edgeHouse()
  if ('skipped' in opened) skipped = opened.skipped
  else house = opened
}, 120_000)
afterAll(async () => {
  await house?.[Symbol.asyncDispose]()
  await sim[Symbol.asyncDispose]()
})

test.for([
  ['Deno', onDeno],
  ['workerd', onWorkerd],
] as const)(
  'the edge on %s wakes workers through QStash, and takes the call of its schedule once and from nobody else',
  { timeout: 120_000 },
  async ([name, start], context) => {
    if (!house) return context.skip(`left out: ${skipped}`)
    await using runtime = await start({
      ...house.variables,
      QSTASH_URL: sim.url,
      QSTASH_TOKEN: sim.token,
      QSTASH_CURRENT_SIGNING_KEY: sim.keys.current,
      QSTASH_NEXT_SIGNING_KEY: sim.keys.next,
      WAKE_URL: wakeUrl,
      TICK_URL: tickUrl,
    })
    const heard: string[] = []
    sim.route = (to) => {
      heard.push(to)
      return to === tickUrl ? `${runtime.url}/tick` : `${runtime.url}/healthz`
    }
    const client = graphqlClient(runtime.url, house.token)
    const yaml = 'pipeline_id: q\nsteps:\n  - step_id: only\n    ps_type: file.delete\n    paths: ["a"]\n'
    const path = `test/qstash/${name.toLowerCase()}`
    await client.request(
      'mutation ($path: String!, $yaml: String!) { savePipeline(input: { path: $path, yaml: $yaml }) { created } }',
      { path, yaml },
    )
    await client.request(
      'mutation ($path: String!) { runPipeline(input: { pipeline: $path }) { run { id } errors { message } } }',
      { path },
    )
    await until('the workers are woken', () => heard.includes(wakeUrl))
    await until('it says for what', () =>
      sim.delivered.some(({ body }) => body === '{"v":1,"tenantId":"edge_tenant","queue":"export"}'),
    )

    const tick = async (signature: string): Promise<number> =>
      (
        await fetch(`${runtime.url}/tick`, {
          method: 'POST',
          body: '{"v":1}',
          headers: { 'upstash-signature': signature },
        })
      ).status
    const good = await sim.sign(tickUrl, '{"v":1}')
    expect([await tick(good), await tick(good), await tick(await sim.sign(wakeUrl, '{"v":1}'))]).toEqual([
      200, 401, 401,
    ])
  },
)
