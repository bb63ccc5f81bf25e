import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { edgeEnv } from '../../control-plane/env.ts'
import { readEnv } from '../../shared/env.ts'
import { controlPlaneEnv } from '../../standalone/control-plane-env.ts'
import { standaloneEnv } from '../../standalone/env.ts'
import { workerEnv } from '../../workers/env.ts'

test('.env.example names every variable that is read once, and no other', () => {
  const text = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8')
  const named = [...text.matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name)
  const read = [standaloneEnv, controlPlaneEnv, workerEnv, edgeEnv].flatMap(({ shape }) => Object.keys(shape))
  expect(named.sort()).toEqual([...new Set(read)].sort())
})

const keys = JSON.stringify({ current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } })
const hosted = { DATABASE_URL: 'postgres://run:secret@db.example/house', PLATFORM_KEYS: keys }

test('a worker and a control plane start with two variables, and know nothing of private addresses', () => {
  expect(readEnv(workerEnv, hosted)).toMatchObject({ STOP_GRACE: 30_000, ALLOW_PRIVATE_NETWORK: false })
  expect(readEnv(controlPlaneEnv, hosted)).toMatchObject({ HOST: '127.0.0.1', PORT: 8080, HEALTH_HOST: '127.0.0.1' })
})

test('platform keys that are none are a fault of the environment, which repeats nothing of them', () => {
  const shortKey = btoa('too short for a key')
  for (const PLATFORM_KEYS of [
    'x',
    '{}',
    '{"current":"k2","keys":{}}',
    `{"current":"k1","keys":{"k1":"${shortKey}"}}`,
  ]) {
    const read = (): unknown => readEnv(workerEnv, { ...hosted, PLATFORM_KEYS })
    expect(read).toThrow(/^[^]*PLATFORM_KEYS: expected \{"current"/)
    expect(read).not.toThrow(shortKey)
  }
})

test('a sender is required with a mail server, and a grace names its unit', () => {
  expect(() => readEnv(workerEnv, { ...hosted, SMTP_URL: 'smtp://mail.example' })).toThrow('SMTP_FROM: required with')
  expect(() => readEnv(controlPlaneEnv, { ...hosted, STOP_GRACE: '30', PLATFORM_API_KEY: 'x' })).toThrow(
    /STOP_GRACE: expected a duration[\s\S]*PLATFORM_API_KEY: expected key_/,
  )
})

test('a Redis is reached with TLS, on this machine or by leave, and Upstash has a token', () => {
  const plain = { ...hosted, REDIS_URL: 'redis://:secret@redis.example:6379' }
  for (const shape of [workerEnv, controlPlaneEnv]) {
    expect(() => readEnv(shape, plain)).toThrow('ALLOW_PLAIN_REDIS: a Redis on another host')
    expect(readEnv(shape, { ...plain, ALLOW_PLAIN_REDIS: 'true' }).REDIS_URL).toBe(plain.REDIS_URL)
    for (const REDIS_URL of ['rediss://redis.example', 'redis://127.0.0.1:6379', 'redis://localhost', 'redis://[::1]'])
      expect(readEnv(shape, { ...hosted, REDIS_URL }).REDIS_URL).toBe(REDIS_URL)
    for (const REDIS_URL of ['redis://127.0.0.1.example', 'redis://localhost.example', 'http://127.0.0.1'])
      expect(() => readEnv(shape, { ...hosted, REDIS_URL })).toThrow('REDIS')
  }
  const upstash = { ...hosted, UPSTASH_REDIS_REST_URL: 'https://x.upstash.io', UPSTASH_REDIS_REST_TOKEN: 't' }
  expect(readEnv(edgeEnv, upstash)).toMatchObject({ UPSTASH_REDIS_REST_TOKEN: 't', ALLOW_PLAIN_REDIS: false })
  expect(() => readEnv(edgeEnv, { ...upstash, UPSTASH_REDIS_REST_URL: 'http://x.upstash.io' })).toThrow(
    'ALLOW_PLAIN_REDIS',
  )
  for (const name of ['UPSTASH_REDIS_REST_URL', 'UPSTASH_REDIS_REST_TOKEN'])
    expect(() => readEnv(edgeEnv, { ...upstash, [name]: '' })).toThrow('UPSTASH_REDIS_REST_TOKEN: required with')
})

test('all faults of an environment come in one error, by name, and empty means unset', () => {
  expect(readEnv(standaloneEnv, { PORT: '', HOST: '0.0.0.0' })).toEqual(readEnv(standaloneEnv, { HOST: '0.0.0.0' }))
  const faults = (): unknown => readEnv(standaloneEnv, { PORT: 'http', SMTP_URL: 'mail', WORKER_CAPACITY: '0' })
  expect(faults).toThrow(/PORT: [\s\S]*SMTP_URL: [\s\S]*WORKER_CAPACITY: /)
})
