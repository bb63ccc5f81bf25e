import { mapAsyncIterator, type Plugin } from 'graphql-yoga'
import { noteDenials } from '../audit/note-denials.ts'
import type { Context } from '../context.ts'
import { writeJson } from '../http/write-json.ts'
import { publicError } from './errors.ts'

/** Hands the engine what was read of the body before, by rules of our own. */
export const parsedRequests: Plugin<Context, Context> = {
  onRequestParse({ serverContext: { asked }, setRequestParser }) {
    if (!asked) return
    const { query, variables, operationName } = asked
    setRequestParser(() => ({ query, variables, ...(operationName === undefined ? {} : { operationName }) }))
  },
}

/** The last word on every result: errors become public ones, and an event carries its number. */
export const publicResults: Plugin<Context, Context> = {
  onResultProcess({ result, setResult, serverContext }) {
    const { requestId, ports, spending, idempotency, pledge } = serverContext
    const published = <R extends object>(one: R): R => {
      const errors: unknown[] | undefined = 'errors' in one && Array.isArray(one.errors) ? one.errors : undefined
      // What is answered to a key that is not what it was goes nowhere.
      if (errors && pledge?.state !== 'broken') noteDenials(serverContext, errors)
      const isWhole = !('data' in one)
      const { cost, points } = spending
      return {
        ...one,
        ...(errors ? { errors: errors.map((error) => publicError(error, requestId, ports.log, isWhole)) } : {}),
        extensions:
          serverContext.event.id === undefined
            ? { cost: { cost, points }, ...(idempotency.isReplay ? { idempotentReplay: true } : {}) }
            : { eventId: serverContext.event.id },
        stringify: writeJson,
      }
    }
    if (Array.isArray(result)) setResult(result.map(published))
    else if (Symbol.asyncIterator in result) setResult(mapAsyncIterator(result, published))
    else setResult(published(result))
  },
}
