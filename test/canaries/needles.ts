import { canaryBeginnings } from '../support/canary.ts'

/** What begins like a canary, or looks like a whole token, and how it was written. */
export type Found = { kind: 'secret' | 'row' | 'token'; form: string; at: number }

type Needle = { kind: 'secret' | 'row'; form: string; bytes: Buffer }

// Base64 writes three bytes in four letters, so a word looks different at each of three places; letters at its ends
// depend on what stands beside it.
const inBase64 = (word: string, before: number): string => {
  const text = Buffer.from('\0'.repeat(before) + word).toString('base64')
  const first = Math.ceil((before * 8) / 6)
  const last = Math.floor(((before + word.length) * 8) / 6)
  return text.slice(first, last)
}

const percent = (word: string): string => Array.from(Buffer.from(word), (byte) => `%${byte.toString(16)}`).join('')

const needles: Needle[] = (['secret', 'row'] as const).flatMap((kind) => {
  const word = canaryBeginnings[kind]
  const hex = Buffer.from(word).toString('hex')
  const texts = {
    plain: word,
    capitals: word.toUpperCase(),
    'base64, first': inBase64(word, 0),
    'base64, second': inBase64(word, 1),
    'base64, third': inBase64(word, 2),
    hex,
    'hex in capitals': hex.toUpperCase(),
    'hex with spaces': hex.replaceAll(/(..)(?!$)/g, '$1 '),
    'percent encoding': percent(word),
    'percent encoding in capitals': percent(word).toUpperCase(),
    backwards: [...word].toReversed().join(''),
  }
  const asText = Object.entries(texts).map(([form, text]) => ({ kind, form, bytes: Buffer.from(text) }))
  return [...asText, { kind, form: 'UTF-16', bytes: Buffer.from(word, 'utf16le') }]
})

// A key, a refresh token and an access token as a client sends them; what is stored of them is a hash or an id.
const tokens: [form: string, shape: RegExp][] = [
  ['API key', /key_[0-9a-f]{32}\.[\w-]{30,}/],
  ['refresh token', /ref_[a-z][a-z0-9_]{1,47}\.ses_[0-9a-f]{32}\.[0-9a-f]{64}/],
  ['access token', /eyJ[\w-]{10,}\.eyJ[\w-]{20,}\.[\w-]{20,}/],
]

/** Every form of a canary that these bytes hold, the first place of each. With `withTokens` whole tokens, too. */
export function finds(bytes: Buffer, withTokens = false): Found[] {
  const found: Found[] = needles.flatMap(({ kind, form, bytes: needle }) => {
    const at = bytes.indexOf(needle)
    return at === -1 ? [] : [{ kind, form, at }]
  })
  if (!withTokens) return found
  const text = bytes.toString('latin1')
  for (const [form, shape] of tokens) {
    const at = text.search(shape)
    if (at !== -1) found.push({ kind: 'token', form, at })
  }
  return found
}

/** No form of a canary or a token is longer, so pieces of a file that overlap by this much miss none. */
export const longestForm = 400
