import type { Begin } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { sameHash } from '../../shared/secrets/api-key.ts'
import { innermost } from '../graphql/errors.ts'
import type { KeyFacts } from './key-cache.ts'

/** A good key as it was last read; `record` is all that the database had of it, as one text. */
export type KnownKey = { facts: KeyFacts; secretHash: string; record: string }

/** Keys that this process has read and found good. They let nobody in: what they say is expected, and then asked for. */
export type KnownKeys = {
  find(id: string, secretHash: string): KnownKey | undefined
  keep(id: string, key: KnownKey): void
  forget(id: string): void
}

/**
 * What is owed for a request that was let in by what was known of its key: the database has to find the key unchanged before
 * anything is written for the request, any row is read, or any of its answer leaves.
 */
export type Pledge = {
  /** What became of it: open until the key was asked for, and broken when it is not what it was. */
  readonly state: 'open' | 'kept' | 'broken'
  /** Runs `read` with a statement to begin with, which ends the transaction unless the key is unchanged: no trip of its own. */
  over<T>(read: (first: readonly Begin[]) => Promise<T>): Promise<T>
  /** Has the key looked up if nothing has yet. Throws when the pledge is broken: the request then begins anew. */
  settle(): Promise<void>
}

// Beyond this many the memory is dropped: each is then looked up once more.
const knownMax = 10_000

/** The memory of one process. */
export function knownKeys(): KnownKeys {
  const known = new Map<string, KnownKey>()
  return {
    find(id, secretHash) {
      const key = known.get(id)
      return key && sameHash(secretHash, key.secretHash) ? key : undefined
    },
    keep(id, key) {
      if (known.size >= knownMax) known.clear()
      known.set(id, key)
    },
    forget: (id) => void known.delete(id),
  }
}

/** The pledge for a known key. `isSame` looks it up; `anew` asks the database and nobody else. */
export function pledgeFor(id: string, { record }: KnownKey, isSame: (anew: boolean) => Promise<boolean>): Pledge {
  const condition: Begin = {
    text: 'select 1 / count(*) from app.find_api_key($1) f where f::text = $2',
    values: [id, record],
  }
  let state: Pledge['state'] = 'open'
  let settled: Promise<void> | undefined
  const look = async (anew: boolean): Promise<void> => {
    state = (await isSame(anew)) ? 'kept' : 'broken'
    if (state === 'broken') throw new AppError('CONFLICT', 'The key was changed.')
  }
  return {
    get state() {
      return state
    },
    settle: () => (settled ??= look(false)),
    async over(read) {
      if (settled) {
        await settled
        return read([])
      }
      try {
        const found = await read([condition])
        settled ??= Promise.resolve()
        if (state === 'open') state = 'kept'
        return found
      } catch (error) {
        if (!isBroken(error)) throw error
        await (settled = look(true))
        return read([])
      }
    },
  }
}

// No such key divides by zero. A query of its own might as well, which is why the key is looked up then.
function isBroken(error: unknown): boolean {
  const cause = innermost(error)
  return cause instanceof Error && 'code' in cause && cause.code === '22012'
}
