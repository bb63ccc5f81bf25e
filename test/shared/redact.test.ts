import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { describeError, jsonLog } from '../../shared/log.ts'
import { liveSecrets, redacted, redactor } from '../../shared/redact.ts'
import { leastMs } from '../support/timing.ts'

const password = "s3cret/p&ss'wörd+1"
const pem = `-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\n`
const secret = { host: 'db.acme.example', port: 5432, user: 'loader', password, privateKey: pem }
const guarding = (value: unknown = secret) => {
  const one = redactor()
  one.guard(value)
  return one
}
const base64 = (text: string): string => Buffer.from(text).toString('base64')

describe('a password does not leave', () => {
  const spelled: Record<string, string> = {
    'as it is': `FATAL: ${password} is wrong`,
    'in the middle of words': `xx${password}yy`,
    'in base64': base64(password),
    'in base64 with a user before it': base64(`loader:${password}`),
    'in base64 at any place': base64(`ab:${password}:rest of it`),
    'in base64 for URLs': Buffer.from(`a${password}`).toString('base64url'),
    'in hexadecimal': Buffer.from(password).toString('hex'),
    'in upper case hexadecimal': Buffer.from(password).toString('hex').toUpperCase(),
    'as a printed buffer': inspect(Buffer.from(password)),
    'as a buffer in JSON': JSON.stringify(Buffer.from(password)),
    'in a URL': `https://loader:${encodeURIComponent(password)}@db.acme.example/x`,
    'in a query of a URL': new URLSearchParams({ p: password }).toString(),
    'in JSON': JSON.stringify({ p: `"${password}"` }),
    'in JSON in JSON': JSON.stringify(JSON.stringify({ p: password })),
    'in SQL': `ALTER ROLE x PASSWORD '${password.replaceAll("'", "''")}'`,
    'in HTML': `<b>${password.replaceAll('&', '&amp;')}</b>`,
    'printed with its error': inspect(Object.assign(new Error('no'), { given: { password } })),
  }
  test.each(Object.entries(spelled))('%s', (_name, text) => {
    const shown = guarding().text(text)
    expect(shown).toContain(redacted)
    for (const part of [password, password.slice(0, 8), encodeURIComponent(password), base64(password).slice(0, 16)])
      expect(shown).not.toContain(part)
  })

  test('cut by the server that repeats it', () => {
    expect(guarding().text(`bad password: ${password.slice(0, 11)}… (42601)`)).toBe(
      `bad password: ${redacted}… (42601)`,
    )
  })

  test('twice, overlapping with another one', () => {
    const both = guarding(['abcdefgh-1', 'fgh-1-xyz-2'])
    expect(both.text('<abcdefgh-1-xyz-2>')).toBe(`<${redacted}>`)
  })

  test('anywhere in a chain of causes', () => {
    using _held = liveSecrets.guard(secret)
    const error = new Error('outer', { cause: new Error(`middle ${password}`, { cause: `inner ${base64(password)}` }) })
    expect(describeError(error)).toBe(`Error: outer <- Error: middle ${redacted} <- inner ${redacted}==`)
  })
})

test('a private key does not leave by any of its lines, nor in one line', () => {
  for (const text of [
    pem,
    inspect({ pem }),
    JSON.stringify({ pem }),
    pem.split('\n')[1] ?? '',
    pem.replaceAll('\n', ''),
  ]) {
    const shown = guarding().text(`key: ${text}`)
    expect(shown).not.toContain('MIIEvQIB')
    expect(shown).not.toContain('BKcwggSj')
  }
})

test('where a credential points to stays readable', () => {
  const text = 'No connection to db.acme.example:5432 as loader.'
  expect(guarding().text(text)).toBe(text)
})

test('what looks like a secret does not leave, known or not', () => {
  const none = redactor()
  expect(none.text('Authorization: Bearer ya29.a0AfH6SMBx')).toBe(`Authorization: Bearer ${redacted}`)
  expect(none.text('amqp://guest:guest1@mq/x')).toBe(`amqp://guest:${redacted}@mq/x`)
  expect(none.text('host=h password=hunter22 user=u')).toBe(`host=h password=${redacted} user=u`)
  expect(none.text(`was ${pem.slice(0, 60)}`)).toBe(`was ${redacted}`)
  expect(none.text(`key_${'0'.repeat(32)}.${'f'.repeat(64)}`)).toBe(`key_${'0'.repeat(32)}.${redacted}`)
})

test('fields of a log that are named like a secret are hidden, at any depth; others are not', () => {
  const lines: string[] = []
  const log = jsonLog(
    (line) => lines.push(line),
    () => new Date(0),
  )
  log.warn('refused', {
    tenantId: 't',
    client: { apiKey: 'a', access_token: 'b', 'private-key': { pem: 'c' }, keyId: 'key_1', tokens: 3 },
  })
  const { client } = JSON.parse(lines[0] ?? '')
  expect(client).toEqual({
    apiKey: redacted,
    access_token: redacted,
    'private-key': redacted,
    keyId: 'key_1',
    tokens: 3,
  })
})

test('data keep their shape, and a name that begins like a secret stays', () => {
  const one = guarding()
  const data = { rows: 3, path: `out/${password.slice(0, 9)}.csv`, list: [password, null, 5n], [password]: true }
  expect(one.data(data)).toEqual({ rows: 3, path: data.path, list: [redacted, null, 5n], [redacted]: true })
})

test('what is held twice is guarded until both let go', () => {
  const one = redactor()
  const first = one.guard({ password })
  const second = one.guard({ password })
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  expect(one.text(password)).toBe(redacted)
  second[Symbol.dispose]()
  expect(one.text(password)).toBe(password)
})

test('what is remembered makes room after 32 others', () => {
  const one = redactor()
  for (let n = 0; n < 33; n++) one.remember({ password: `password-no-${n}-x` })
  expect(one.text('password-no-0-x')).not.toContain(redacted.repeat(2))
  expect(one.text('<password-no-32-x>')).toBe(`<${redacted}>`)
})

test('no secret survives in any text around it', () => {
  const word = fc.string({ minLength: 6, maxLength: 40, unit: 'binary' })
  fc.assert(
    fc.property(word, fc.string(), fc.string(), (value, before, after) => {
      const shown = guarding({ password: value }).text(`${before}${value}${after}`)
      expect(redacted.includes(value) || !shown.replaceAll(redacted, '\u0000').includes(value)).toBe(true)
    }),
  )
})

test('a text made to be slow is not', async () => {
  const many = redactor()
  for (let n = 0; n < 32; n++) many.remember({ password: `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa${n}` })
  const texts = [
    'a'.repeat(65_536),
    '://'.repeat(21_845),
    '-----BEGIN PRIVATE KEY-----'.repeat(2_000),
    `Bearer ${'a'.repeat(60_000)}`,
  ]
  expect(await leastMs(500, () => texts.map((text) => many.text(text)))).toBeLessThan(500)
})
