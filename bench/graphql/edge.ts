import { fileURLToPath } from 'node:url'
import { edgeBundle } from '../../scripts/edge-bundle.ts'
import { onWorkerd, workerd } from '../../test/edge/runtimes.ts'
import { startNeonProxy } from '../../test/support/neon-proxy.ts'
import { startRedis } from '../../test/support/redis.ts'
import { startRedisBridge } from '../../test/support/redis-bridge.ts'
import { result } from '../result.ts'
import type { House } from './house.ts'
import { type Asked, inTurns } from './in-turns.ts'
import { installPeers } from './node.ts'

const load = { perRound: 32, atOnce: 4 }
const root = fileURLToPath(new URL('../..', import.meta.url))

/**
 * The control plane on workerd, without and with what remembers keys and counts limits for all isolates, beside other servers
 * there that are asked for the same rows over the same driver. Answers whether the goals are met.
 */
export async function onEdge(house: House, rounds: number): Promise<boolean> {
  installPeers()
  await using undo = new AsyncDisposableStack()
  const proxy = await startNeonProxy(house.port, fileURLToPath(new URL('../../test/edge/house.ts', import.meta.url)))
  undo.defer(() => proxy.stop())
  const variables = { DATABASE_URL: house.web, NEON_PROXY: proxy.hostPort }
  const ours = async (more: Record<string, string> = {}): Promise<Asked> => {
    const { url } = undo.use(await onWorkerd({ ...variables, PLATFORM_KEYS: house.platformKeys, ...more }))
    return { url: `${url}/graphql`, token: house.token }
  }
  const peer = async (file: string): Promise<Asked> => {
    const code = await edgeBundle(root, { entry: fileURLToPath(new URL(file, import.meta.url)) })
    const { url } = undo.use(await workerd(code, { ...variables, TENANT_ID: house.tenantId }, ['nodejs_compat']))
    return { url: `${url}/graphql` }
  }
  const servers: Record<string, Asked> = {
    tributary: await ours(),
    yoga: await peer('peer-of-edge.ts'),
    apollo: await peer('../peers/apollo-on-edge.js'),
  }
  const redis = await startRedis()
  if ('skipped' in redis) console.log(`without Redis: ${redis.skipped}`)
  else {
    undo.defer(() => redis.stop())
    const bridge = undo.use(await startRedisBridge(redis.url))
    servers['tributary-with-redis'] = await ours({
      UPSTASH_REDIS_REST_URL: bridge.url,
      UPSTASH_REDIS_REST_TOKEN: bridge.token,
    })
  }
  console.log('graphql.workerd: mercurius is left out, since it needs a server of Node')
  const spent = await inTurns(servers, { rounds, ...load })
  for (const [name, { ms }] of Object.entries(spent)) result(`graphql.workerd.${name}`, ms, 'ms')
  const over = (name: string, other: string): number => (spent[name]?.ms ?? Infinity) / (spent[other]?.ms ?? 0)
  if ('tributary-with-redis' in spent)
    result('graphql.workerd.ratio-with-redis-to-yoga', over('tributary-with-redis', 'yoga'), 'times')
  return [
    result('graphql.workerd.ratio-to-yoga', over('tributary', 'yoga'), 'times', { op: '<=', value: 1.15 }),
    result('graphql.workerd.ratio-to-apollo', over('tributary', 'apollo'), 'times', { op: '<=', value: 1 }),
  ].every(Boolean)
}
