import { type Db, exchangeOf, offerExchange } from '../../shared/db/db.ts'
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
  const inTime = new Proxy(db, {
    get: (target, name) => (name === 'transaction' ? transaction : Reflect.get(target, name, target)),
  })
  // A call in one exchange commits by itself, which could be too late: only reads go that way.
  const exchange = exchangeOf(db)
  if (exchange)
    offerExchange(inTime, {
      async read(begin, build) {
        refuseLate()
        return exchange.read(begin, build)
      },
    })
  return inTime
}
