import { type Db, exchangeOf, offerExchange } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import type { Pledge } from '../auth/pledge.ts'

/**
 * The database of one request: when `signal` has stopped it with an AppError as the reason, no transaction begins any more
 * and none that is open commits; they throw the reason. What nobody was told of has then not happened. While a pledge is open
 * nothing begins before it is settled, and nothing is read but together with settling it.
 */
export function inTimeOnly(db: Db, signal: AbortSignal, pledgeOf: () => Pledge | undefined): Db {
  const refuseLate = (): void => {
    if (signal.aborted && signal.reason instanceof AppError) throw signal.reason
  }
  const transaction: Db['transaction'] = async (work, config) => {
    refuseLate()
    await pledgeOf()?.settle()
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
        const pledge = pledgeOf()
        return pledge ? pledge.over((more) => exchange.read([...begin, ...more], build)) : exchange.read(begin, build)
      },
    })
  return inTime
}
