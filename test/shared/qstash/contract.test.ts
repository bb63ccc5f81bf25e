import { z } from 'zod'
import { qstashContract } from '../../contracts/qstash.ts'
import { startQStashSim } from '../../support/qstash-sim.ts'

qstashContract('the stand-in for QStash', async () => {
  const sim = await startQStashSim()
  const { url, token, keys, fire } = sim
  return { url, token, keys, fire, delivers: true, [Symbol.asyncDispose]: () => sim[Symbol.asyncDispose]() }
})

const { QSTASH_URL: url = '', QSTASH_TOKEN: token = '' } = process.env
const keysShape = z.object({ current: z.string(), next: z.string() })

qstashContract(
  'the QStash of the environment',
  async () => {
    const headers = { authorization: `Bearer ${token}` }
    const answer = await fetch(`${url}/v2/keys`, { headers, signal: AbortSignal.timeout(10_000) })
    return {
      url,
      token,
      keys: keysShape.parse(await answer.json()),
      delivers: ['127.0.0.1', 'localhost'].includes(new URL(url).hostname),
      [Symbol.asyncDispose]: async () => undefined,
    }
  },
  url && token ? undefined : 'QSTASH_URL and QSTASH_TOKEN are not set',
)
