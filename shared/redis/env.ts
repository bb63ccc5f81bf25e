import { z } from 'zod'

/** Variables of whoever uses a Redis by connection. */
export const redisVariables = {
  /** `rediss://user:password@host:port`; without one limits are counted in each process, and hints go another way. */
  REDIS_URL: z.url({ protocol: /^rediss?$/ }).optional(),
  /** `true` allows connections to Redis without TLS to other hosts than this one. */
  ALLOW_PLAIN_REDIS: z.stringbool().default(false),
}

/** Variables of whoever uses a Redis over HTTP. */
export const upstashVariables = {
  /** Address of the REST service of Upstash; without one limits are counted in each isolate and keys are looked up each time. */
  UPSTASH_REDIS_REST_URL: z.url({ protocol: /^https?$/ }).optional(),
  /** Its token; required with UPSTASH_REDIS_REST_URL. */
  UPSTASH_REDIS_REST_TOKEN: z.string().optional(),
  ALLOW_PLAIN_REDIS: redisVariables.ALLOW_PLAIN_REDIS,
}

type Refinement<T> = [holds: (env: T) => boolean, fault: { path: string[]; message: string }]
type Urls = { REDIS_URL?: string | undefined; UPSTASH_REDIS_REST_URL?: string | undefined; ALLOW_PLAIN_REDIS: boolean }

/** For `refine`: without TLS there is only a Redis of this machine, unless the deployment allows it. */
export const withTls: Refinement<Urls> = [
  ({ REDIS_URL, UPSTASH_REDIS_REST_URL, ALLOW_PLAIN_REDIS }) =>
    ALLOW_PLAIN_REDIS || [REDIS_URL, UPSTASH_REDIS_REST_URL].every((url) => url === undefined || isGuarded(url)),
  {
    path: ['ALLOW_PLAIN_REDIS'],
    message: 'a Redis on another host is reached by rediss:// or https:// only, unless this is true',
  },
]

/** For `refine`: an address and its token come together. */
export const withToken: Refinement<{
  UPSTASH_REDIS_REST_URL?: string | undefined
  UPSTASH_REDIS_REST_TOKEN?: string | undefined
}> = [
  (env) => (env.UPSTASH_REDIS_REST_URL === undefined) === (env.UPSTASH_REDIS_REST_TOKEN === undefined),
  { path: ['UPSTASH_REDIS_REST_TOKEN'], message: 'required with UPSTASH_REDIS_REST_URL, and of no use without' },
]

function isGuarded(text: string): boolean {
  const { protocol, hostname } = new URL(text)
  return /^(rediss|https):$/.test(protocol) || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}
