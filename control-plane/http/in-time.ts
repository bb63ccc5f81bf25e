import type { Db } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'

/**
 * The database of one request: when `signal` has stopped it with an AppError as the reason, no transaction begins any more
 * and none that is open commits; they throw the reason. What nobody was told of has then not happened.
 */
export function inTimeOnly(db: Db, signal: AbortSignal): Db {
  const refuseLate = (): void => {
    if (signal.aborted && signal.reason instanceof AppError) throw signal.reason
  }
  const transaction: Db['transaction'] = (work, config) => {
    refuseLate()
    return db.transaction(async (tx) => {
      const done = await work(tx)
      refuseLate()
      return done
    }, config)
  }
  return new Proxy(db, {
    get: (target, name) => (name === 'transaction' ? transaction : Reflect.get(target, name, target)),
  })
}
