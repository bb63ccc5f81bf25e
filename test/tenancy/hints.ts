import type { GraphQLSchema } from 'graphql'
import type { Hub, Topic } from '../../shared/waking/hub.ts'
import { askGraphql } from './ask.ts'
import type { Estate } from './estate.ts'
import { tally, type Tally } from './tally.ts'
import { documentOf, placesOf, targetsOf } from './targets.ts'
import { kindOf, type Stock } from './values.ts'

/**
 * Whoever watches is woken for what is its tenant's and for nothing else, even where ids are the same; and the topics that
 * a stream waits for are made from the tenant of its key, whatever it names.
 */
export async function proveHints(estate: Estate, stock: Stock, hub: Hub): Promise<Tally> {
  const found = tally()
  const { a, b } = estate
  const run = { runId: 'run_same' }
  const pairs: [Topic, Topic, boolean][] = [
    [{ tenantId: a.id, ...run }, { tenantId: b.id, ...run }, false],
    [{ tenantId: a.id }, { tenantId: b.id }, false],
    [{ tenantId: a.id }, { tenantId: b.id, ...run }, false],
    [{ tenantId: a.id, ...run }, { tenantId: b.id }, false],
    [{ tenantId: a.id, ...run }, { tenantId: a.id, ...run }, true],
    [{ tenantId: a.id }, { tenantId: a.id, ...run }, true],
  ]
  for (const [waiting, hint, wakes] of pairs) {
    const end = new AbortController()
    let isWoken = false
    const waited = hub.wait(waiting, 60_000, end.signal).then(() => (isWoken = true))
    hub.notify(hint)
    // Whoever is woken is so by then: a hint is handed over at once.
    await new Promise((resolve) => setTimeout(resolve, 5))
    found.check(
      isWoken === wakes,
      `${JSON.stringify(hint)} ${wakes ? 'does not wake' : 'wakes'} ${JSON.stringify(waiting)}`,
    )
    end.abort()
    await waited
  }

  const topics: Topic[] = []
  const listening: Hub = {
    notify: (topic) => hub.notify(topic),
    wait(topic, ms, signal) {
      topics.push(topic)
      return hub.wait(topic, ms, signal)
    },
  }
  const app = estate.plane.appWith({ waits: { streamMs: 60 } }, { hub: listening })
  const runs = [stock.ofA.get('PipelineRun.id')?.[0], stock.ofB.get('PipelineRun.id')?.[0]]
  for (const runId of runs)
    await askGraphql(app, a.admin, {
      document: 'subscription ($runId: ID!) { runEvents(runId: $runId) { seq } }',
      variables: { runId },
    })
  for (const tenantId of [null, a.id, b.id])
    await askGraphql(app, a.admin, {
      document: 'subscription ($tenantId: ID) { queueStatus(tenantId: $tenantId) { name } }',
      variables: { tenantId },
    })
  found.check(topics.length > 0, 'no stream waited for a hint')
  for (const topic of topics) found.check(topic.tenantId === a.id, `a stream of A waits for ${JSON.stringify(topic)}`)
  return found
}

/**
 * Readers that streams share are a tenant's own: while B watches its things and they change, A asks for the same streams
 * with B's values and sees nothing of B.
 */
export async function proveStreams(schema: GraphQLSchema, estate: Estate, stock: Stock): Promise<Tally> {
  const found = tally()
  const { a, b } = estate
  const app = estate.plane.appWith({ waits: { streamMs: 500 } })
  for (const target of targetsOf(schema, () => false)) {
    if (target.operation !== 'subscription') continue
    const ofB = new Map<string, string>()
    for (const place of placesOf(target)) {
      const kind = kindOf(place)
      if (kind && kind.finds !== 'text') ofB.set(place.coordinate, await stock.foreign(kind, target))
    }
    const question = documentOf(target, await stock.base(target, a.admin, ofB, []), 2)
    const watching = askGraphql(app, b.admin, question)
    const asking = askGraphql(app, a.admin, question)
    await askGraphql(app, b.admin, {
      document: `mutation { runPipeline(input: { pipeline: "${b.mark}/orders/p1" }) { created } }`,
    })
    const { text: seen } = await watching
    const { text } = await asking
    found.check(
      seen.includes('event: next') && !seen.includes('"errors"'),
      `${target.name} shows B nothing`,
      () => seen,
    )
    const bare = [...ofB.values()].reduce((rest, word) => rest.replaceAll(word, '<asked>'), text)
    const marks = stock.marksOfB.filter((mark) => bare.includes(mark))
    found.check(marks.length === 0, `${target.name} shows A what B watches`, () => text)
  }
  return found
}
