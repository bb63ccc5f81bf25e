import { type Db, type Tx, withTenant } from '../../shared/db/db.ts'
import { isDatabaseAway } from '../../shared/db/away.ts'
import { describeError } from '../../shared/log.ts'
import type { Topic } from '../../shared/waking/hub.ts'
import { refuseEnded } from '../auth/refuse-ended.ts'
import { type Auth, authOf, type Context, inTenant } from '../context.ts'

/** What is followed: events in one order, each with a place in it. */
export type Source<Event, Place> = {
  /** Whose sources of the same name share one reader. */
  name: string
  topic: Topic
  /** Events after a place, at most `limit`. Throws when there is nothing to follow. */
  read(tx: Tx, after: Place, limit: number): Promise<Batch<Event, Place>>
  placeOf(event: Event): Place
  /** Negative when `a` is before `b`. */
  compare(a: Place, b: Place): number
}

/** `last`: nothing comes after this place. `isHeld`: there are events that may not be shown yet, in a moment they may. */
export type Batch<Event, Place> = { events: Event[]; last?: Place | undefined; isHeld?: boolean }

const eventsPerRead = 200
// What a tail remembers for those who read slower than events come; whoever falls behind it reads for himself.
const rememberedMax = 500
// Without a hint, this is how late an event can be.
const lookAgainMs = 5_000
const heldMs = { first: 10, most: 500 }
const awayMs = 1_000

/**
 * Events of a source after a place, each once and in order, as they come. Ends with the source, when the client is gone,
 * or after the stream's time: then the client resumes after its last event. Throws UNAUTHENTICATED once the caller's key or
 * session has ended; no event that came later is shown.
 *
 * However many follow a source over one database handle, it is read once. None has a buffer of its own: a slow one takes
 * what the tail remembers, or reads.
 */
export async function* follow<Event, Place>(
  context: Context,
  source: Source<Event, Place>,
  after: Place,
): AsyncGenerator<Event> {
  const { clock } = context.ports
  const until = clock.now().getTime() + context.waits.streamMs
  const auth = authOf(context)
  let seen = after
  // Seated before it reads, if there is a tail: what comes while it reads is then heard of.
  let seat = tailOf(context, source)?.join(auth)
  try {
    let batch = await readOwn(context, source, seen, until)
    while (!context.signal.aborted) {
      for (const event of batch.events) {
        seen = source.placeOf(event)
        yield event
      }
      if (batch.events.length < eventsPerRead) {
        if (batch.last !== undefined && source.compare(seen, batch.last) >= 0) return
        const left = until - clock.now().getTime()
        if (left <= 0) return
        if (seat) await seat.change(left, context.signal)
        else {
          const begun = tailOf(context, source)
          seat = (begun ?? beginTail(context, source, seen)).join(auth)
          // A tail that another began meanwhile may have shown already what came since the read: read once more.
          if (!begun) await seat.change(left, context.signal)
        }
        if (context.signal.aborted) return
      }
      batch = seat?.take(seen) ?? (await readOwn(context, source, seen, until))
    }
  } finally {
    seat?.leave()
  }
}

// The first read, and that of one who fell behind. A database that is away for a moment ends no stream.
async function readOwn<Event, Place>(
  context: Context,
  source: Source<Event, Place>,
  seen: Place,
  until: number,
): Promise<Batch<Event, Place>> {
  const { clock } = context.ports
  for (;;) {
    try {
      return await inTenant(context, async (tx, auth) => {
        const batch = await source.read(tx, seen, eventsPerRead)
        // After the read: whoever is let through now was when these events came.
        await refuseEnded(tx, auth, clock.now())
        return batch
      })
    } catch (error) {
      if (!isDatabaseAway(error) || clock.now().getTime() >= until || context.signal.aborted) throw error
      await clock.sleep(awayMs, context.signal)
    }
  }
}

/** A follower's place at a tail. */
type Seat<Event, Place> = {
  /** What the tail has for it after a place; undefined when it must read for itself. Throws when its authority has ended. */
  take(after: Place): Batch<Event, Place> | undefined
  /** Resolves when there may be something new, after `ms`, or when `signal` aborts. */
  change(ms: number, signal: AbortSignal): Promise<void>
  leave(): void
}
type Tail<Event, Place> = { join(auth: Auth): Seat<Event, Place> }
// `round`: the last in which it was looked at; `taken`: the last that it has seen.
type Sitting = { auth: Auth; round: number; taken: number; refusal: unknown; wake: () => void }

// By database handle: a Node process has one, an edge request its own, which no other request may touch.
const tails = new WeakMap<Db, Map<string, unknown>>()

// Sources of one name are made by one function: what stands under it is of their types.
function tailOf<Event, Place>({ lastingDb }: Context, { name }: Source<Event, Place>): Tail<Event, Place> | undefined {
  return tails.get(lastingDb)?.get(name) as Tail<Event, Place> | undefined
}

function beginTail<Event, Place>(
  { lastingDb: db, ports }: Context,
  source: Source<Event, Place>,
  from: Place,
): Tail<Event, Place> {
  const known = tails.get(db) ?? new Map<string, unknown>()
  tails.set(db, known)
  const made = startTail({ ...ports, db }, source, from, () => known.delete(source.name))
  known.set(source.name, made)
  return made
}

function startTail<Event, Place>(
  { db, hub, clock, log }: Context['ports'],
  source: Source<Event, Place>,
  from: Place,
  ended: () => void,
): Tail<Event, Place> {
  const sitting = new Set<Sitting>()
  const empty = new AbortController()
  let round = 0
  let remembered: Event[] = []
  let floor = from
  let top = from
  let last: Place | undefined

  // One read for all, and one look at each authority among them, however many hold it.
  async function read(): Promise<Batch<Event, Place>> {
    const seats = [...sitting]
    const checked = new Map<string, unknown>()
    const batch = await withTenant(db, { tenantId: source.topic.tenantId, side: 'api' }, async (tx) => {
      const found = await source.read(tx, top, eventsPerRead)
      for (const { auth } of seats) {
        const key = JSON.stringify([auth.bearer, [...auth.scopes]])
        if (!checked.has(key)) checked.set(key, await refusalOf(tx, auth))
      }
      return found
    })
    round++
    for (const seat of seats) {
      seat.round = round
      seat.refusal = checked.get(JSON.stringify([seat.auth.bearer, [...seat.auth.scopes]]))
    }
    return batch
  }
  async function refusalOf(tx: Tx, auth: Auth): Promise<unknown> {
    try {
      await refuseEnded(tx, auth, clock.now())
      return undefined
    } catch (error) {
      if (isDatabaseAway(error)) throw error
      return error
    }
  }

  function remember(batch: Batch<Event, Place>): void {
    remembered.push(...batch.events)
    const tooMany = remembered.length - rememberedMax
    if (tooMany > 0) {
      const dropped = remembered[tooMany - 1]
      if (dropped !== undefined) floor = source.placeOf(dropped)
      remembered = remembered.slice(tooMany)
    }
    const newest = batch.events.at(-1)
    if (newest !== undefined) top = source.placeOf(newest)
    last = batch.last
    for (const { wake } of sitting) wake()
  }

  async function run(): Promise<void> {
    let isSilent = false
    let held = heldMs.first
    while (!empty.signal.aborted) {
      // Listening begins before reading: what is committed after the read still ends the wait.
      const over = new AbortController()
      const hint = hub.wait(source.topic, lookAgainMs, AbortSignal.any([over.signal, empty.signal]))
      try {
        const batch = await read()
        remember(batch)
        isSilent = false
        if (batch.events.length >= eventsPerRead) continue
        held = batch.isHeld ? Math.min(heldMs.most, held * 2) : heldMs.first
        if (batch.isHeld) await Promise.race([hint, clock.sleep(held, over.signal)])
        else await hint
      } catch (error) {
        if (!isSilent && !empty.signal.aborted)
          log.warn('tail.failed', { name: source.name, error: describeError(error) })
        isSilent = true
        await clock.sleep(awayMs, empty.signal)
      } finally {
        over.abort()
      }
    }
  }

  return {
    join(auth) {
      const seat: Sitting = { auth, round: -1, taken: round, refusal: undefined, wake: () => undefined }
      sitting.add(seat)
      if (sitting.size === 1) void run()
      return {
        take(after) {
          if (seat.refusal !== undefined) throw seat.refusal
          seat.taken = round
          // Who sat down after the last look has not been looked at.
          if (seat.round !== round || source.compare(after, floor) < 0) return undefined
          // From the end: most are one event behind.
          let first = remembered.length
          for (let event = remembered[first - 1]; event !== undefined; event = remembered[first - 1]) {
            if (source.compare(source.placeOf(event), after) <= 0) break
            first--
          }
          return { events: remembered.slice(first), last }
        },
        change: (ms, signal) =>
          new Promise((resolve) => {
            if (signal.aborted || seat.taken < round) return resolve()
            const end = (): void => {
              clearTimeout(timer)
              signal.removeEventListener('abort', end)
              seat.wake = () => undefined
              resolve()
            }
            const timer = setTimeout(end, ms)
            signal.addEventListener('abort', end, { once: true })
            seat.wake = end
          }),
        leave() {
          sitting.delete(seat)
          if (sitting.size > 0) return
          empty.abort()
          ended()
        },
      }
    },
  }
}
