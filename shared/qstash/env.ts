import { z } from 'zod'

const secret = z.string().min(16).max(4096)
const url = z.url({ protocol: /^https?$/ }).max(1024)

/** Variables of whoever sends wake-ups, or is called, over QStash. */
export const qstashVariables = {
  /** Address of QStash: that of the account's region, or of a development server on this machine. */
  QSTASH_URL: url.default('https://qstash.upstash.io'),
  /** Token of the account; without one wake-ups go another way. */
  QSTASH_TOKEN: secret.optional(),
  /** The keys that QStash signs with; a message signed with either is good. */
  QSTASH_CURRENT_SIGNING_KEY: secret.optional(),
  QSTASH_NEXT_SIGNING_KEY: secret.optional(),
  /** Where QStash finds the workers, letter by letter: `https://workers.example/wake`. */
  WAKE_URL: url.optional(),
  /** Where QStash finds the control plane's housekeeping, letter by letter: `https://api.example/tick`. */
  TICK_URL: url.optional(),
  /** Where QStash tells the control plane of wake-ups that nobody took, letter by letter: `https://api.example/wake-failed`. */
  WAKE_FAILED_URL: url.optional(),
  /** Must not be set: with it the library of QStash trusts keys that everybody knows. */
  QSTASH_DEV: z
    .enum(['', '0', 'false'], {
      error:
        'refused, since it makes everybody a trusted sender; for a development server set QSTASH_URL, QSTASH_TOKEN and its two keys',
    })
    .optional(),
}

/** The parsed variables. */
export type QStashVariables = z.output<z.ZodObject<typeof qstashVariables>>

type Fault = { holds: (env: QStashVariables) => boolean; path: keyof QStashVariables; message: string }

const faults: readonly Fault[] = [
  {
    holds: (env) => (env.QSTASH_CURRENT_SIGNING_KEY === undefined) === (env.QSTASH_NEXT_SIGNING_KEY === undefined),
    path: 'QSTASH_NEXT_SIGNING_KEY',
    message: 'the current key and the next one come together',
  },
  {
    holds: (env) => env.QSTASH_CURRENT_SIGNING_KEY !== undefined || env.TICK_URL === undefined,
    path: 'TICK_URL',
    message: 'of no use without QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY',
  },
  {
    holds: (env) => env.QSTASH_TOKEN === undefined || env.WAKE_URL !== undefined,
    path: 'WAKE_URL',
    message: 'required with QSTASH_TOKEN',
  },
  {
    holds: (env) => addresses(env).every((one) => one === undefined || isGuarded(one)),
    path: 'QSTASH_URL',
    message: 'QSTASH_URL, WAKE_URL, TICK_URL and WAKE_FAILED_URL begin with https://, except on this machine',
  },
  {
    holds: (env) => !isPublicKey(env) || addresses(env).every((one) => one === undefined || isHere(one)),
    path: 'QSTASH_CURRENT_SIGNING_KEY',
    message: 'this is a key of the development server, which everybody knows: it is good for addresses of this machine',
  },
]

/** For `superRefine`: says what is wrong with these variables together. */
export function qstashFaults(env: QStashVariables, check: z.RefinementCtx): void {
  for (const { holds, path, message } of faults)
    if (!holds(env)) check.addIssue({ code: 'custom', path: [path], message })
}

// Printed in the documentation of the development server, this year's and an older one.
const publicKeys = [
  'sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r',
  'sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs',
  'sig_7RvLjqfZBvP5KEUimQCE1pvpLuou',
  'sig_7W3ZNbfKWk5NWwEs3U4ixuQ7fxwE',
]

const addresses = (env: QStashVariables): (string | undefined)[] => [
  env.QSTASH_URL,
  env.WAKE_URL,
  env.TICK_URL,
  env.WAKE_FAILED_URL,
]

const isPublicKey = (env: QStashVariables): boolean =>
  [env.QSTASH_CURRENT_SIGNING_KEY, env.QSTASH_NEXT_SIGNING_KEY].some((key) => key && publicKeys.includes(key))

const isHere = (text: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(text).hostname)

const isGuarded = (text: string): boolean => new URL(text).protocol === 'https:' || isHere(text)
