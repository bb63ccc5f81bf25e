import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { edgeEnv } from '../../control-plane/env.ts'
import { readEnv } from '../../shared/env.ts'
import { standaloneEnv } from '../../standalone/env.ts'

test('.env.example names every variable that is read, and no other', () => {
  const text = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8')
  const named = [...text.matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name)
  const read = new Set([...Object.keys(standaloneEnv.shape), ...Object.keys(edgeEnv.shape)])
  expect(named.sort()).toEqual([...read].sort())
})

test('all faults of an environment come in one error, by name, and empty means unset', () => {
  expect(readEnv(standaloneEnv, { PORT: '', HOST: '0.0.0.0' })).toEqual(readEnv(standaloneEnv, { HOST: '0.0.0.0' }))
  const faults = (): unknown => readEnv(standaloneEnv, { PORT: 'http', SMTP_URL: 'mail', WORKER_CAPACITY: '0' })
  expect(faults).toThrow(/PORT: [\s\S]*SMTP_URL: [\s\S]*WORKER_CAPACITY: /)
})
