import { and, eq, isNull, lte, or, sql } from 'drizzle-orm'
import { idempotentRequest } from '../../schema/tables/index.ts'
import { type Tx, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { SecretOwner } from '../../shared/secrets/secret-box.ts'
import type { Context } from '../context.ts'
import { innermost } from '../graphql/errors.ts'
import { answerOfValues, valuesOfAnswer } from './answer-values.ts'
import { isHashOf } from './input-hash.ts'

/** A request with a key: whose it is and what it asks for. */
export type Asked = {
  tenantId: string
  mutation: string
  key: string
  actor: string
  input: object
  inputHash: string
  requestId: string
}

/** What a request was answered, without its secrets. */
export type Kept = { actor: string; answer: object }

const keptMs = 86_400_000

/**
 * Claims a key in the caller's transaction: undefined when it is ours now, else what was answered. Waits for another that
 * is claiming it, 3 s at most. Throws IDEMPOTENCY_KEY_REUSED for another input, CONFLICT while the other is at work or when its answer is
 * no longer kept.
 */
export async function claim(context: Context, tx: Tx, asked: Asked, leaseMs: number): Promise<Kept | undefined> {
  const { tenantId, mutation, key, actor, inputHash, requestId } = asked
  const now = context.ports.clock.now()
  const claimed = {
    actor,
    inputHash,
    claimedBy: requestId,
    claimedUntil: new Date(now.getTime() + leaseMs),
    answeredAt: null,
    answer: null,
    secret: null,
    expiresAt: new Date(now.getTime() + keptMs),
  }
  await tx.execute(sql`select set_config('lock_timeout', '3000', true)`)
  const { answeredAt, claimedUntil, expiresAt } = idempotentRequest
  const [mine] = await tx
    .insert(idempotentRequest)
    .values({ tenantId, mutation, key, ...claimed })
    .onConflictDoUpdate({
      target: [idempotentRequest.tenantId, idempotentRequest.mutation, idempotentRequest.key],
      set: claimed,
      setWhere: or(lte(expiresAt, now), and(isNull(answeredAt), lte(claimedUntil, now))),
    })
    .returning({ key: idempotentRequest.key })
    .catch((error: unknown) => {
      throw isOfWaiting(error) ? stillRunning() : error
    })
  if (mine) return undefined
  const [row] = await tx.select().from(idempotentRequest).where(isRequest(asked))
  if (!row || (row.answeredAt === null && row.inputHash === inputHash)) throw stillRunning()
  if (!(await isHashOf(context.ports.signing, row.inputHash, asked.input, inputHash)))
    throw new AppError('IDEMPOTENCY_KEY_REUSED', 'This idempotency key belongs to a request with another input.', {
      place: { path: 'idempotencyKey' },
    })
  if (row.answeredAt === null) throw stillRunning()
  if (row.answer === null)
    throw new AppError('CONFLICT', 'This was done, and its answer is no longer kept.', {
      place: { path: 'idempotencyKey' },
    })
  return { actor: row.actor, answer: answerOfValues(row.answer) }
}

/** As `claim`, in a transaction of its own. */
export const claimAlone = (context: Context, asked: Asked, leaseMs: number): Promise<Kept | undefined> =>
  inOwnTenant(context, asked, (tx) => claim(context, tx, asked, leaseMs))

/** Keeps what a request that holds its claim was answered; `secrets` are sealed with the tenant's data key. */
export async function keepAnswer(
  context: Context,
  tx: Tx,
  asked: Asked,
  result: object,
  secrets: readonly string[],
): Promise<void> {
  const isSecret = (name: string, value: unknown): boolean => secrets.includes(name) && typeof value === 'string'
  const all = Object.entries(result)
  const shownOnce = Object.fromEntries(all.filter(([name, value]) => isSecret(name, value)))
  const others = Object.fromEntries(all.filter(([name, value]) => !isSecret(name, value)))
  const hasSecret = Object.keys(shownOnce).length > 0
  await tx
    .update(idempotentRequest)
    .set({
      answer: valuesOfAnswer(others),
      secret: hasSecret ? await context.ports.secrets.seal(tx, ownerOf(asked), shownOnce) : null,
      answeredAt: context.ports.clock.now(),
    })
    .where(and(isRequest(asked), eq(idempotentRequest.claimedBy, asked.requestId)))
}

/**
 * The secrets of an answer; none of them when the data key that sealed them is gone: then what they open is there, and
 * they are not.
 */
export async function secretsOf(context: Context, tx: Tx, asked: Asked): Promise<object> {
  const [row] = await tx.select({ secret: idempotentRequest.secret }).from(idempotentRequest).where(isRequest(asked))
  if (!row?.secret) return {}
  try {
    const secret = await context.ports.secrets.open(tx, ownerOf(asked), row.secret)
    return typeof secret === 'object' && secret !== null ? secret : {}
  } catch (error) {
    if (error instanceof AppError && error.code === 'SECRET_UNREADABLE') return {}
    throw error
  }
}

/** Leaves the key to the next request, unless it was claimed by another meanwhile. */
export const giveUp = (context: Context, asked: Asked): Promise<void> =>
  inOwnTenant(context, asked, async (tx) => {
    const isMine = and(isRequest(asked), eq(idempotentRequest.claimedBy, asked.requestId))
    await tx.delete(idempotentRequest).where(isMine)
  })

/** Forgets what was answered about a person. A repeat is told that it was done. */
export async function forgetAnswers(tx: Tx, tenantId: string, userId: string): Promise<void> {
  await tx
    .update(idempotentRequest)
    .set({ answer: null, secret: null })
    .where(and(eq(idempotentRequest.tenantId, tenantId), eq(sql`${idempotentRequest.answer} #>> '{user,id}'`, userId)))
}

/** Binds the transaction to the tenant again, whatever was bound inside of it. */
export async function bindTo(tx: Tx, tenantId: string): Promise<void> {
  await tx.execute(sql`select set_config('app.tenant_id', ${tenantId}, true)`)
}

const inOwnTenant = <T>(context: Context, { tenantId }: Asked, work: (tx: Tx) => Promise<T>): Promise<T> =>
  withTenant(context.ports.db, { tenantId, side: 'api' }, work)

const isRequest = ({ tenantId, mutation, key }: Asked) =>
  and(
    eq(idempotentRequest.tenantId, tenantId),
    eq(idempotentRequest.mutation, mutation),
    eq(idempotentRequest.key, key),
  )

// No credential has such an id, so that neither opens in the place of the other.
const ownerOf = ({ tenantId, mutation, key }: Asked): SecretOwner => ({
  tenantId,
  credentialId: `answer ${mutation} ${key}`,
  version: 1,
})

const stillRunning = (): AppError =>
  new AppError('CONFLICT', 'The first request with this idempotency key is still running.', {
    hint: 'Send it again in a moment: it is answered the same then.',
    place: { path: 'idempotencyKey' },
    retry: 'later',
  })

// 55P03: a lock was not there in time.
function isOfWaiting(error: unknown): boolean {
  const cause = innermost(error)
  return cause instanceof Error && 'code' in cause && cause.code === '55P03'
}
