/**
 * Keeps live secrets out of texts. It knows them in the forms in which systems repeat them: as they are, line by line,
 * as base64 (inside a longer text too), hexadecimal, bytes, and escaped for URLs, JSON, SQL and HTML.
 */
export type Redactor = {
  /** Guards the texts of a secret (JSON) until disposed. Those of fewer than 6 characters cannot be told from other text. */
  guard(secret: unknown): Disposable
  /** Guards a secret until 32 others were remembered after it: for whoever cannot say when it is no longer needed. */
  remember(secret: unknown): void
  /**
   * The text without what is guarded, or the first 8 or more characters of it, and without what looks like a secret:
   * bearer tokens, passwords in URLs, private keys. Of a text longer than 16 Ki characters the rest is dropped, and of one
   * that is made to take long as well.
   */
  text(text: string): string
  /** Data with every text in it redacted, names of fields included; only what is guarded, or its first 12 characters. */
  data<T>(data: T): T
  /** Fields of a log line: as `text`, and the values of fields whose names say that they are secret. */
  fields(fields: Record<string, unknown>): Record<string, unknown>
}

/** Stands where a secret stood. */
export const redacted = '[redacted]'

const charsMin = 6
// A server that cuts what it repeats gives away a beginning; shorter ones are ordinary words too often.
const beginningMin = 8
// In data a name that begins like a weak password must stay what it is.
const beginningInDataMin = 12
const textMax = 16_384
const comparisonsMax = 2_000_000
const rememberedMax = 32
const linesMax = 200
const depthMax = 12

/** A redactor that guards nothing yet. The time for a text grows with its length, not with the number of secrets. */
export function redactor(): Redactor {
  const index = new Map<string, Map<string, number>>()
  const remembered: Disposable[] = []

  const guard = (secret: unknown): Disposable => {
    const forms = [...new Set(textsOf(secret, depthMax).flatMap(formsOf))]
    for (const form of forms) {
      const key = form.slice(0, charsMin)
      const bucket = index.get(key) ?? new Map<string, number>()
      index.set(key, bucket.set(form, (bucket.get(form) ?? 0) + 1))
    }
    let isHeld = true
    return {
      [Symbol.dispose]() {
        if (!isHeld) return
        isHeld = false
        for (const form of forms) release(index, form)
      },
    }
  }
  const inData = (text: string): string => (index.size === 0 ? text : cover(index, text, beginningInDataMin))
  const text = (given: string): string => {
    const kept = given.length > textMax ? given.slice(0, textMax) : given
    const known = index.size === 0 ? kept : cover(index, kept, beginningMin)
    const shown = patterns.reduce((rest, [pattern, by]) => rest.replace(pattern, by), known)
    return given.length > textMax ? `${shown}…` : shown
  }
  return {
    guard,
    remember(secret) {
      remembered.push(guard(secret))
      if (remembered.length > rememberedMax) remembered.shift()?.[Symbol.dispose]()
    },
    text,
    // The shape stays, so does the type.
    data: <T>(data: T) => walk(data, inData, () => false, 0) as T,
    fields: (fields) => walk(fields, text, isSecretName, 0) as Record<string, unknown>,
  }
}

/** Guards what this process has opened, in everything that it logs or reports. */
export const liveSecrets: Redactor = redactor()

// Every position is looked up by the characters that follow; what overlaps is covered as one.
function cover(index: Index, text: string, beginning: number): string {
  let shown = ''
  let shownTo = 0
  let coveredTo = -1
  const budget = { left: comparisonsMax }
  for (let at = 0; at + charsMin <= text.length; at++) {
    const bucket = index.get(text.slice(at, at + charsMin))
    if (!bucket) continue
    const end = at + longest(bucket, text, at, beginning, budget)
    if (budget.left < 0) return `${shown}${text.slice(shownTo, Math.max(shownTo, at))}…`
    if (end === at) continue
    if (at > coveredTo) {
      shown += text.slice(shownTo, at) + redacted
      coveredTo = end
    } else coveredTo = Math.max(coveredTo, end)
    shownTo = coveredTo
  }
  return shown + text.slice(shownTo)
}

function longest(
  bucket: ReadonlyMap<string, number>,
  text: string,
  at: number,
  beginning: number,
  budget: { left: number },
): number {
  let best = 0
  for (const form of bucket.keys()) {
    let same = charsMin
    while (same < form.length && form.charCodeAt(same) === text.charCodeAt(at + same)) same++
    budget.left -= same
    if (same === form.length || same >= beginning) best = Math.max(best, same)
  }
  return best
}

type Index = Map<string, Map<string, number>>

function release(index: Index, form: string): void {
  const key = form.slice(0, charsMin)
  const bucket = index.get(key)
  const held = bucket?.get(form) ?? 0
  if (held > 1) bucket?.set(form, held - 1)
  else bucket?.delete(form)
  if (bucket?.size === 0) index.delete(key)
}

// Where a credential points to is no secret, and errors are of little use without it. Every other field is one.
const openFields: ReadonlySet<string> = new Set(
  `host hostname port user username database dbname schema ssl hostkey provider clientemail projectid tokenuri authuri dataset
  location apiurl type region bucket endpoint url prefix from email account warehouse role universedomain`.split(/\s+/),
)

function textsOf(secret: unknown, depthLeft: number): string[] {
  if (typeof secret === 'string') return [secret]
  if (typeof secret === 'number' || typeof secret === 'bigint') return [String(secret)]
  if (typeof secret !== 'object' || secret === null || depthLeft === 0) return []
  if (Array.isArray(secret)) return secret.flatMap((part) => textsOf(part, depthLeft - 1))
  return Object.entries(secret).flatMap(([name, part]) =>
    openFields.has(plainName(name)) ? passwordsInUrl(part) : textsOf(part, depthLeft - 1),
  )
}

function passwordsInUrl(value: unknown): string[] {
  const found = typeof value === 'string' ? /:\/\/[^\s/:@]{0,200}:([^\s/@]{1,1000})@/.exec(value)?.[1] : undefined
  return found === undefined ? [] : [found, unescapedUrl(found)]
}

function unescapedUrl(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function formsOf(secret: string): string[] {
  const lines = secret.split(/\r?\n/, linesMax)
  // The frame of a key says nothing and would hide every mention of one.
  const body = lines.map((line) => line.trim()).filter((line) => !line.startsWith('-----'))
  const parts = lines.length === 1 ? [secret] : [secret.trim(), ...body, body.join('')]
  return parts
    .filter((part) => part.length >= charsMin)
    .flatMap((part) => spellings(part.toWellFormed()))
    .filter((form) => form.length >= charsMin && !form.startsWith('-----BEGIN'))
}

function spellings(text: string): string[] {
  const bytes = new TextEncoder().encode(text)
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'))
  const url = encodeURIComponent(text)
  const strict = url.replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
  const json = inJson(text)
  const base64 = [0, 1, 2].flatMap((shift) => base64Core(bytes, shift))
  return [
    text,
    json,
    inJson(json),
    ...[url, strict, strict.replaceAll('%20', '+')].flatMap((form) => [form, form.replaceAll(/%../g, lower)]),
    ...base64,
    ...base64.map((form) => form.replaceAll('+', '-').replaceAll('/', '_')),
    hex.join(''),
    hex.join('').toUpperCase(),
    hex.join(' '),
    hex.join(':'),
    bytes.join(','),
    bytes.join(', '),
    text.replaceAll("'", "''"),
    text.replaceAll("'", String.raw`\'`),
    text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;'),
  ]
}

const lower = (text: string): string => text.toLowerCase()
const inJson = (text: string): string => JSON.stringify(text).slice(1, -1)

// Inside a longer text base64 depends on where the secret begins: three ways, each without the characters that it shares
// with what stands around it.
function base64Core(bytes: Uint8Array, shift: number): string[] {
  const padded = new Uint8Array(shift + bytes.length)
  padded.set(bytes, shift)
  const whole = btoa(Array.from(padded, (byte) => String.fromCharCode(byte)).join('')).replaceAll('=', '')
  const from = Math.ceil((shift * 8) / 6)
  const to = Math.floor((padded.length * 8) / 6)
  return shift === 0 ? [whole, whole.slice(from, to)] : [whole.slice(from, to)]
}

const patterns: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g, redacted],
  [/\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${redacted}`],
  [/(:\/\/[^\s/:@]{0,200}):[^\s/@]{1,1000}@/g, `$1:${redacted}@`],
  [/\b(password|passwd|pwd|passphrase|secret|token|api[_-]?key) ?= ?["']?[^\s"'&,;]{6,1000}/gi, `$1=${redacted}`],
  [/\b(key_[0-9a-f]{32})\.[A-Za-z0-9_-]{8,}/g, `$1.${redacted}`],
]

const secretName =
  /(?:password|passwd|pwd|passphrase|secret|token|authorization|cookie|privatekey|apikey|connectionstring|dsn)$/
const isSecretName = (name: string): boolean => secretName.test(plainName(name))
const plainName = (name: string): string => name.toLowerCase().replaceAll(/[_\-. ]/g, '')

function walk(
  value: unknown,
  clean: (text: string) => string,
  isHidden: (name: string) => boolean,
  depth: number,
): unknown {
  if (typeof value === 'string') return clean(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth >= depthMax) return redacted
  if (value instanceof Error) return clean(errorText(value))
  if (Array.isArray(value)) return value.map((part) => walk(part, clean, isHidden, depth + 1))
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) => [
      clean(name),
      isHidden(name) && part !== null && typeof part !== 'boolean' ? redacted : walk(part, clean, isHidden, depth + 1),
    ]),
  )
}

const errorText = (error: Error): string => `${error.name}: ${error.message}`
