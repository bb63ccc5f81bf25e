import { sql } from 'drizzle-orm'
import { verifyDelivery } from '../auth/verify-token.ts'
import type { Clock } from '../clock.ts'
import { callOnce, type Db, type Side } from '../db/db.ts'
import { AppError } from '../errors.ts'
import { liveSecrets } from '../redact.ts'

/** Who may deliver: `keys` are those that QStash signs with, the current one first; `url` is where it was told to deliver. */
export type Sender = { keys: readonly [current: string, next: string]; url: string }

/** Who may deliver to `url`, in an environment that has the keys and the address; undefined otherwise. */
export function senderOf(
  env: { QSTASH_CURRENT_SIGNING_KEY?: string | undefined; QSTASH_NEXT_SIGNING_KEY?: string | undefined },
  url: string | undefined,
): Sender | undefined {
  const { QSTASH_CURRENT_SIGNING_KEY: current, QSTASH_NEXT_SIGNING_KEY: next } = env
  if (current === undefined || next === undefined || url === undefined) return undefined
  liveSecrets.guard([current, next])
  return { keys: [current, next], url }
}

/** More bytes than the body of any delivery to us has: whoever reads one stops there. */
export const deliveryBytesMax = 4096

const forgottenAtOnce = 100

/**
 * Takes what QStash delivers, once: the signature under the current key or the next one, made for this very address, over
 * this very body, within its time, and never taken before by any process. Answers nothing. Throws UNAUTHENTICATED for
 * everything else, with one text; and what the database throws when it cannot say whether it was taken.
 *
 * What was taken is remembered as long as its signature could be good, which is some minutes.
 */
export async function receiveDelivery(
  ports: { db: Db; clock: Pick<Clock, 'now'> },
  side: Side,
  sender: Sender,
  delivery: { signature: string | null | undefined; body: string },
): Promise<void> {
  const { jti, exp, body } = await verifyDelivery(
    delivery.signature ?? '',
    { keys: sender.keys, issuer: 'Upstash', subject: sender.url, lifetimeSeconds: 900, charsMax: 4096 },
    ports.clock.now(),
  )
  if (body.replace(/=+$/, '') !== (await hashOf(delivery.body))) throw notTaken('another body')
  if (!(await takeOnce(ports.db, side, jti, new Date(exp * 1000)))) throw notTaken('taken before')
}

// Together with it the oldest of those are forgotten that are good no more: the table grows no longer than they live.
async function takeOnce(db: Db, side: Side, id: string, endsAt: Date): Promise<boolean> {
  const taken = await callOnce(
    db,
    { tenantId: '', side },
    sql`with old as (
          delete from app.seen_delivery where id in (
            select id from app.seen_delivery where ends_at < now() order by ends_at limit ${forgottenAtOnce} for update skip locked))
        insert into app.seen_delivery (id, ends_at) values (${id}, ${endsAt.toISOString()}::timestamptz)
        on conflict (id) do nothing returning id`,
  )
  return taken.length === 1
}

async function hashOf(body: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(body)))
  return btoa(String.fromCharCode(...digest))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '')
}

const notTaken = (why: string): AppError =>
  new AppError('UNAUTHENTICATED', 'This token is not valid.', { context: { why } })
