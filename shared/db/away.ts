const codes =
  /^(08...|57P0[123]|40001|40P01|53300|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN)$/
const words =
  /Connection terminated|connection timeout|timeout exceeded when trying to connect|Client has encountered a connection error|not queryable|Query read timeout/i
// Of Neon's driver over HTTP, and of its proxy when the database sleeps, is full or moves: these have no code of their own.
const wordsOfNeon =
  /^Error connecting to database|^Server error \(HTTP status (429|5\d\d)\)|Couldn't connect to compute node|Control plane request failed|Failed to acquire permit|Too many (database )?connections? attempts/i

/**
 * True when the database could not be asked, or broke off, whatever was asked: it is starting, stopping, unreachable, full,
 * or chose this transaction to give way. The same call may succeed in a moment; whether it took effect is not known.
 */
export function isDatabaseAway(error: unknown): boolean {
  let at = error
  for (let depth = 0; at instanceof Error && depth < 10; at = at.cause, depth++) {
    if (codes.test(codeOf(at))) return true
    if (words.test(at.message) || wordsOfNeon.test(at.message)) return true
    if (at instanceof AggregateError && at.errors.some(isDatabaseAway)) return true
  }
  // A WebSocket that breaks says so by an event; nothing else of a database does.
  return isEvent(at)
}

/** True when the database gave up this transaction for others that ran beside it: nothing of it took effect. */
export function mustBeAskedAnew(error: unknown): boolean {
  let at = error
  for (let depth = 0; at instanceof Error && depth < 10; at = at.cause, depth++)
    if (/^40(001|P01)$/.test(codeOf(at))) return true
  return false
}

const codeOf = (error: Error): string => {
  const code: unknown = Reflect.get(error, 'code')
  return typeof code === 'string' ? code : ''
}
const isEvent = (thrown: unknown): boolean => typeof Event === 'function' && thrown instanceof Event
