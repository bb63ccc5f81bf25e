import { createHash, randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import { z } from 'zod'
import { describeError } from '../../shared/log.ts'
import { openQStash } from '../../shared/qstash/client.ts'
import { tickScheduleId } from '../../shared/qstash/ensure-schedules.ts'
import type { WakeMessage } from '../../shared/waking/wake-message.ts'
import { type Check, fail, type Finding, ok, warn } from './finding.ts'
import type { House } from './house.ts'

const timeoutMs = 5_000
const keysShape = z.object({ current: z.string(), next: z.string() })

/**
 * QStash takes the token, signs with keys that are known here, has the schedule of the housekeeping, and whoever it calls
 * takes what is signed so: that is tried with a tick, which is safe at any rate, and a wake-up for nobody.
 */
export const qstash: Check = {
  name: 'qstash',
  concerns: ({ part, qstash: has }) =>
    part !== 'embedded' && [has.token, has.keys, has.tickUrl].some((one) => one !== undefined),
  async look({ qstash: has, clock }, signal) {
    const findings: Finding[] = []
    if (has.token !== undefined) findings.push(...(await accountOf({ ...has, token: has.token }, signal)))
    const { keys } = has
    if (keys) {
      const wake: WakeMessage = { v: 1, tenantId: 'doctor_of_nobody', queue: 'ingest' }
      for (const [name, url, body] of [
        ['TICK_URL', has.tickUrl, { v: 1 }],
        ['WAKE_URL', has.wakeUrl, wake],
      ] as const)
        if (url !== undefined)
          findings.push(await delivered(name, url, JSON.stringify(body), keys.current, clock.now(), signal))
    }
    if (!findings.some(({ state }) => state === 'fail' || state === 'warn'))
      return ok(
        has.token === undefined
          ? 'Whoever it calls takes what it signs.'
          : 'It takes the token, and whoever it calls takes what it signs.',
      )
    return findings.filter(({ state }) => state !== 'ok')
  },
}

type Account = House['qstash'] & { token: string }

async function accountOf({ url, token, keys, tickUrl }: Account, signal: AbortSignal): Promise<Finding[]> {
  const account = openQStash({ QSTASH_URL: url, QSTASH_TOKEN: token })
  try {
    const schedules = await account.ask((client) => client.schedules.list(), signal)
    const tick = schedules.find(({ scheduleId }) => scheduleId === tickScheduleId)
    return [
      ...(keys ? [await sameKeys(url, token, keys, signal)] : []),
      ...(tickUrl === undefined || (tick?.destination === tickUrl && !tick.isPaused)
        ? []
        : [
            fail(
              tick === undefined
                ? 'It has no schedule of the housekeeping.'
                : tick.isPaused
                  ? 'Its schedule of the housekeeping is paused.'
                  : 'Its schedule of the housekeeping calls another address than TICK_URL.',
              'Run: npm run qstash-schedules',
            ),
          ]),
    ]
  } catch (error) {
    const why = describeError(error)
    return [
      fail(
        `It does not answer: ${why.split(' <- ').at(-1) ?? ''}`,
        /401|403|invalid token|unauthorized/i.test(why)
          ? 'Correct QSTASH_TOKEN: that of the account, of its region.'
          : "Check QSTASH_URL, that of the account's region, and that this machine reaches it.",
      ),
    ]
  }
}

async function sameKeys(
  url: string,
  token: string,
  keys: { current: string; next: string },
  signal: AbortSignal,
): Promise<Finding> {
  const response = await fetch(`${url.replace(/\/$/, '')}/v2/keys`, {
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
  })
  const theirs = keysShape.safeParse(await response.json()).data
  const todo = 'Set QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY to those of the account, everywhere.'
  if (!theirs) return warn('It does not tell its signing keys.', 'Compare them in the console of the account.')
  if (![keys.current, keys.next].includes(theirs.current))
    return fail('It signs with a key that is not known here: every delivery is refused.', todo)
  return theirs.current === keys.current && theirs.next === keys.next
    ? ok('Its keys are known here.')
    : warn('Its keys were rotated, and one that is known here is gone: the next rotation stops all deliveries.', todo)
}

async function delivered(
  name: string,
  url: string,
  body: string,
  key: string,
  now: Date,
  signal: AbortSignal,
): Promise<Finding> {
  const seconds = Math.floor(now.getTime() / 1000)
  const signature = await new SignJWT({ body: createHash('sha256').update(body).digest('base64url') })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuer('Upstash')
    .setSubject(url)
    .setIssuedAt(seconds)
    .setNotBefore(seconds)
    .setExpirationTime(seconds + 60)
    .setJti(`doctor_${randomUUID()}`)
    .sign(new TextEncoder().encode(key))
  try {
    const { status } = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'upstash-signature': signature },
      body,
      redirect: 'manual',
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    })
    if (status >= 200 && status < 300) return ok(`${name} takes it.`)
    if (status === 401)
      return fail(
        `What stands at ${name} refuses what is signed with the current key.`,
        `Give it the same signing keys and the same ${name}, letter by letter, and look at its clock.`,
      )
    return fail(
      `What stands at ${name} answers ${status}.`,
      `Let ${name} lead to ${name === 'TICK_URL' ? '/tick of the control plane' : '/wake of the workers'}, and see its log.`,
    )
  } catch (error) {
    return warn(
      `${name} cannot be reached from here: ${describeError(error).split(' <- ').at(-1) ?? ''}`,
      'Let QStash reach it, and this machine too if it is to be tried.',
    )
  }
}
