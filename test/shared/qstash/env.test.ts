import { expect, test } from 'vitest'
import { edgeEnv } from '../../../control-plane/env.ts'
import { readEnv } from '../../../shared/env.ts'
import { controlPlaneEnv } from '../../../standalone/control-plane-env.ts'
import { workerEnv } from '../../../workers/env.ts'

const base = {
  DATABASE_URL: 'postgres://a@db.example/a',
  PLATFORM_KEYS: JSON.stringify({ current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }),
}
const devKey = 'sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r'
const whole = {
  QSTASH_TOKEN: 'token-of-an-account',
  QSTASH_CURRENT_SIGNING_KEY: 'sig_current_current',
  QSTASH_NEXT_SIGNING_KEY: 'sig_next_next_next',
  WAKE_URL: 'https://workers.example/wake',
  TICK_URL: 'https://api.example/tick',
}
const processes = { edge: edgeEnv, 'control plane': controlPlaneEnv, worker: workerEnv }

const refused: [string, Record<string, string>, string][] = [
  ['QSTASH_DEV', { ...whole, QSTASH_DEV: 'true' }, 'QSTASH_DEV: refused, since it makes everybody a trusted sender'],
  ['QSTASH_DEV in another spelling', { QSTASH_DEV: '1' }, 'QSTASH_DEV: refused'],
  ['a key of the development server', { ...whole, QSTASH_CURRENT_SIGNING_KEY: devKey }, 'everybody knows'],
  ['one as the next key', { ...whole, QSTASH_NEXT_SIGNING_KEY: devKey }, 'everybody knows'],
  ['one key alone', { QSTASH_CURRENT_SIGNING_KEY: 'sig_current_current' }, 'come together'],
  ['a token without an address', { QSTASH_TOKEN: whole.QSTASH_TOKEN }, 'WAKE_URL: required with QSTASH_TOKEN'],
  ['a housekeeping that anybody may call', { TICK_URL: whole.TICK_URL }, 'of no use without'],
  ['wake-ups in the clear', { ...whole, WAKE_URL: 'http://workers.example/wake' }, 'begin with https://'],
  ['a token in the clear', { ...whole, QSTASH_URL: 'http://qstash.example' }, 'begin with https://'],
]

for (const [name, shape] of Object.entries(processes)) {
  test.for(refused)(`the ${name} refuses to start with %s`, ([, variables, fault]) => {
    expect(() => readEnv(shape, { ...base, ...variables })).toThrow(fault)
  })

  test(`the ${name} starts with QStash, without it, and with a development server of this machine by its variables alone`, () => {
    const here = {
      ...whole,
      QSTASH_URL: 'http://127.0.0.1:8080',
      QSTASH_CURRENT_SIGNING_KEY: devKey,
      QSTASH_NEXT_SIGNING_KEY: 'sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs',
      WAKE_URL: 'http://127.0.0.1:8083/wake',
      TICK_URL: 'http://localhost:8080/tick',
    }
    expect(readEnv(shape, { ...base, ...whole }).QSTASH_URL).toBe('https://qstash.upstash.io')
    expect(readEnv(shape, base).QSTASH_TOKEN).toBeUndefined()
    expect(readEnv(shape, { ...base, ...here, QSTASH_DEV: 'false' }).WAKE_URL).toBe(here.WAKE_URL)
  })
}
