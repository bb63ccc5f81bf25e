import { sql } from 'drizzle-orm'
import { rowsOf, type Tx, withLedger } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Context } from '../context.ts'

/** What is counted, and how many failures of it there may be in a window. */
export type Counted = { kind: 'account' | 'reset' | 'address'; subject: string }

/** Failures in a window of 15 minutes, after which no further attempt is looked at until the window ends. */
export const attemptsMax = { account: 10, reset: 3, address: 100 } as const
const windowMs = 15 * 60_000
const sweptAtOnce = 20

/**
 * Counts an attempt before it is looked at, so that many at once are not more than one after the other. Give back what
 * turns out to be none. Throws RATE_LIMITED, with the seconds to wait, when one of the subjects has no attempt left; the
 * answer then has them in its header, too.
 */
export async function countAttempt(context: Context, counted: readonly Counted[]): Promise<void> {
  const now = context.ports.clock.now().getTime()
  const buckets = await bucketsOf(context, counted)
  await withLedger(context.ports.db, 'api', async (tx) => {
    for (const { bucket, max } of buckets) await countIn(context, tx, bucket, max, now)
    await sweep(tx, now)
  })
}

/** Forgets the failures of an account, and takes back this one of the address. */
export async function forgetAttempts(context: Context, counted: readonly Counted[]): Promise<void> {
  const buckets = await bucketsOf(context, counted)
  await withLedger(context.ports.db, 'api', async (tx) => {
    for (const { bucket, kind } of buckets)
      await tx.execute(
        sql`update app.login_bucket set failures = ${kind === 'address' ? sql`greatest(failures - 1, 0)` : 0} where bucket = ${bucket}`,
      )
  })
}

/** An account, whether there is one or not. */
export const accountOf = (kind: 'account' | 'reset', tenantId: string, email: string): Counted => ({
  kind,
  subject: JSON.stringify([tenantId, email.toLowerCase()]),
})

/** Where the request comes from, if the host says so: an IPv4 address, or the network of an IPv6 address. */
export function addressOf({ address }: Pick<Context, 'address'>): Counted[] {
  if (address === undefined) return []
  return [{ kind: 'address', subject: networkOf(address) }]
}

async function countIn({ spending }: Context, tx: Tx, bucket: number, max: number, now: number): Promise<void> {
  const [counted] = await rowsOf(
    tx,
    sql`insert into app.login_bucket as b (bucket, failures, ends_at) values (${bucket}, 1, ${moment(now + windowMs)})
        on conflict (bucket) do update set failures = case when b.ends_at <= ${moment(now)} then 1 else b.failures + 1 end,
          ends_at = case when b.ends_at <= ${moment(now)} then excluded.ends_at else b.ends_at end
        where b.ends_at <= ${moment(now)} or b.failures < ${max} returning 1 as counted`,
  )
  if (counted) return
  const [full] = await rowsOf<{ ends_ms: number }>(
    tx,
    sql`select (extract(epoch from ends_at) * 1000)::float8 as ends_ms from app.login_bucket where bucket = ${bucket}`,
  )
  const retryAfterSeconds = Math.max(1, Math.ceil(((full?.ends_ms ?? now) - now) / 1000))
  // The refusal is an item of a payload, so that the answer itself must be told.
  spending.retryAfterSeconds = Math.max(spending.retryAfterSeconds ?? 0, retryAfterSeconds)
  throw new AppError('RATE_LIMITED', `Too many attempts. Try again in ${retryAfterSeconds} s.`, {
    figures: { retryAfterSeconds },
  })
}

// Last in its transaction and past locked rows: who sweeps waits for nobody.
const sweep = (tx: Tx, now: number): Promise<unknown> =>
  tx.execute(sql`delete from app.login_bucket where bucket in (
    select bucket from app.login_bucket where ends_at < ${moment(now)} limit ${sweptAtOnce} for update skip locked)`)

const moment = (ms: number) => sql`${new Date(ms).toISOString()}::timestamptz`

// In one order, so that two requests cannot wait for each other. Keyed: nobody can choose accounts that share a number.
async function bucketsOf(
  { ports }: Context,
  counted: readonly Counted[],
): Promise<{ bucket: number; max: number; kind: Counted['kind'] }[]> {
  const { key } = await ports.signing.current('session')
  const buckets = await Promise.all(
    counted.map(async ({ kind, subject }) => {
      const text = new TextEncoder().encode(JSON.stringify(['attempts', kind, subject]))
      const hash = new DataView(await crypto.subtle.sign('HMAC', key, text))
      return { kind, max: attemptsMax[kind], bucket: hash.getUint32(0) >>> 14 }
    }),
  )
  return buckets.toSorted((a, b) => a.bucket - b.bucket)
}

/** An IPv4 address as it is, an IPv6 address as its /64. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  if (!address.includes(':')) return address
  // One customer of a provider has a /64 at least; its groups before the gap are enough when there are four.
  const [head = '', tail] = address.split('%')[0]?.split('::') ?? []
  const [before, after] = [groupsOf(head), groupsOf(tail ?? '')]
  const gap = tail === undefined ? [] : Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0')
  return [...before, ...gap, ...after]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')
}

const groupsOf = (text: string): string[] => (text === '' ? [] : text.split(':'))
