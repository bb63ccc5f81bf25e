import { withTenant, type Tx } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { authOf, type Context } from '../context.ts'
import { answer, type Refusal } from '../graphql/user-errors.ts'
import { hashOf } from './input-hash.ts'
import { insideOf } from './inside.ts'
import { type Asked, bindTo, claim, claimAlone, giveUp, type Kept, keepAnswer, secretsOf } from './keep-answers.ts'

/** What every input with an outside effect may hold. */
export type Keyed = { idempotencyKey?: string | null | undefined }

/** The field of an input that holds the key. */
export const keyField = {
  description:
    'A word of your own for this request: within 24 hours the same word with the same input is answered as the first time, and nothing is done again. Default: the header Idempotency-Key.',
} as const

type Options<T> = {
  /** Fields of the payload that are shown once. They are kept sealed, and only who got them gets them again. */
  secrets?: readonly string[]
  /** What a repeat is answered instead of what it was then. */
  again?: (context: Context, kept: T) => Promise<Partial<T>>
  /** It waits for others between several transactions, each of which is safe to repeat; for so many times a worker's time. */
  waits?: number
}

/**
 * `answer` for a mutation that has its effect once per key of the caller. Without a key it is `answer`. With one, what
 * `work` does by its `context` and what it answers are one transaction; refusals undo all of it and leave the key
 * free. A second request with the key waits for the first and is answered the same, `created` being false then; one with another
 * input gets IDEMPOTENCY_KEY_REUSED. Where `waits` says so, the key is claimed before and the answer kept after the work:
 * meanwhile others get CONFLICT, and a claim whose process died lapses. Adds BAD_INPUT for what is no key.
 */
export async function answerOnce<T extends object>(
  context: Context,
  mutation: string,
  input: Keyed & object,
  work: (context: Context, key: string | null) => Promise<T>,
  options: Options<T> = {},
): Promise<Partial<T> & { errors: Refusal[] }> {
  return answer<T>(async () => {
    const key = checkedKey(input.idempotencyKey ?? context.idempotency.key)
    if (key === null) return work(context, null)
    const { tenantId, actor } = authOf(context)
    const asked: Asked = {
      tenantId,
      mutation,
      key,
      actor,
      input: { ...input, idempotencyKey: undefined },
      inputHash: await hashOf(context.ports.signing, { ...input, idempotencyKey: undefined }),
      requestId: context.requestId,
    }
    return options.waits === undefined ? inOne(context, asked, work, options) : inSeveral(context, asked, work, options)
  })
}

type Work<T> = (context: Context, key: string | null) => Promise<T>

async function inOne<T extends object>(context: Context, asked: Asked, work: Work<T>, options: Options<T>): Promise<T> {
  const inside = insideOf(context)
  try {
    const done = await inTenantOf(context, asked, async (tx): Promise<{ kept: Kept } | { result: T }> => {
      const kept = await claim(context, tx, asked, 0)
      if (kept) return { kept }
      const result = await work(inside.context(tx), asked.key)
      if (isRefused(result)) throw new Undone(result)
      await bindTo(tx, asked.tenantId)
      await keepAnswer(context, tx, asked, result, options.secrets ?? [])
      return { result }
    })
    inside.committed()
    return 'result' in done ? done.result : await replay(context, asked, done.kept, options)
  } catch (error) {
    // The refusal is the same object that `work` answered.
    if (error instanceof Undone) return error.result as T
    throw error
  }
}

async function inSeveral<T extends object>(
  context: Context,
  asked: Asked,
  work: Work<T>,
  options: Options<T>,
): Promise<T> {
  const { executionMs, provisionMs } = context.waits
  const leaseMs = 2 * (executionMs + (options.waits ?? 0) * provisionMs)
  const kept = await claimAlone(context, asked, leaseMs)
  if (kept) return replay(context, asked, kept, options)
  let isKept = false
  try {
    const result = await work(context, asked.key)
    if (!isRefused(result)) {
      await inTenantOf(context, asked, (tx) => keepAnswer(context, tx, asked, result, options.secrets ?? []))
      isKept = true
    }
    return result
  } finally {
    if (!isKept) await giveUp(context, asked)
  }
}

async function replay<T extends object>(
  context: Context,
  asked: Asked,
  kept: Kept,
  { secrets = [], again }: Options<T>,
): Promise<T> {
  if (secrets.length > 0 && kept.actor !== asked.actor)
    throw new AppError('IDEMPOTENCY_KEY_REUSED', 'This idempotency key belongs to a request of somebody else.', {
      place: { path: 'idempotencyKey' },
    })
  context.idempotency.isReplay = true
  // It was a T when it was kept, by this very mutation.
  const first = kept.answer as T
  const isOfCreation = 'created' in first && first.created === true
  return {
    ...first,
    ...(isOfCreation ? { created: false } : {}),
    ...(secrets.length > 0 ? await inTenantOf(context, asked, (tx) => secretsOf(context, tx, asked)) : {}),
    ...(again ? await again(context, first) : {}),
  }
}

const isRefused = (result: object): boolean =>
  'errors' in result && Array.isArray(result.errors) && result.errors.length > 0

/** Takes a transaction back in which nothing was done. */
class Undone extends Error {
  override readonly name = 'Undone'
  readonly result: object
  constructor(result: object) {
    super('refused')
    this.result = result
  }
}

const inTenantOf = <R>(context: Context, { tenantId }: Asked, work: (tx: Tx) => Promise<R>): Promise<R> =>
  withTenant(context.ports.db, { tenantId, side: 'api' }, work)

function checkedKey(key: string | null | undefined): string | null {
  if (key === null || key === undefined) return null
  // Printable ASCII: a key is compared byte by byte, also by people in a log.
  if (/^[\x21-\x7e]{1,200}$/.test(key)) return key
  throw new AppError('BAD_INPUT', 'idempotencyKey must be 1 to 200 printable characters without spaces.', {
    place: { path: 'idempotencyKey' },
  })
}
