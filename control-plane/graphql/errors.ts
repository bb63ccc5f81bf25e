import { GraphQLError } from 'graphql'
import { isDatabaseAway } from '../../shared/db/away.ts'
import { AppError, type ErrorCode, errorCodes } from '../../shared/errors.ts'
import { describeError, type Log } from '../../shared/log.ts'
import { liveSecrets } from '../../shared/redact.ts'

/**
 * An error as it leaves the API: message, `extensions.code`, `.hint` and `.requestId`. What is not an AppError and not a
 * fault of the document becomes INTERNAL without its text, which goes to the log. One that ends the whole request, so that
 * there are no data beside it, gives the answer the HTTP status of its code.
 */
export function publicError(error: unknown, requestId: string, log: Log, isWhole = false): GraphQLError {
  const known = appErrorOf(error) ?? databaseFault(error)
  const documentFault = known ? undefined : faultOfDocument(error)
  const code: ErrorCode = known?.code ?? documentFault?.code ?? 'INTERNAL'
  if (code === 'INTERNAL' || code === 'SECRET_UNREADABLE' || isDatabaseAway(known?.cause))
    log.error('request.failed', { requestId, error: describeError(innermost(error)) })
  const at = error instanceof GraphQLError ? error : undefined
  const message = known?.message ?? documentFault?.message ?? 'An unexpected error ended this request.'
  return new GraphQLError(liveSecrets.text(message), {
    nodes: at?.nodes,
    source: at?.source,
    positions: at?.positions,
    path: at?.path,
    extensions: {
      code,
      hint: known?.hint ?? errorCodes[code].hint,
      requestId,
      ...(documentFault?.http ? { http: documentFault.http } : {}),
      ...(code === 'UNAUTHENTICATED' || (isWhole && known) ? { http: httpOf(code, known) } : {}),
    },
  })
}

const httpOf = (code: ErrorCode, known: AppError | undefined): object => ({
  status: errorCodes[code].status,
  headers: retryAfter(known),
})

/** The header that says when to try again, for a refusal that knows it. */
export function retryAfter(error: AppError | undefined): Record<string, string> {
  const seconds = error?.figures.retryAfterSeconds
  return seconds === undefined ? {} : { 'retry-after': String(seconds) }
}

/** What a driver's error means to a caller: the database took too long, or was away. Undefined for any other. */
export function databaseFault(error: unknown): AppError | undefined {
  const cause = innermost(error)
  // The statement was stopped, here by the time limit that each transaction of the API sets, or a lock was not there in time.
  if (cause instanceof Error && 'code' in cause && (cause.code === '57014' || cause.code === '55P03'))
    return new AppError('TIMED_OUT', 'The database took too long for this.', { hint: 'Ask for less at once.', cause })
  if (!isDatabaseAway(cause)) return undefined
  return new AppError('UNAVAILABLE', 'The database was away for a moment.', {
    hint: 'Try again in a moment. Whether a change was made is not known: look first.',
    figures: { retryAfterSeconds: 1 },
    cause,
  })
}

/** The AppError inside what GraphQL wrapped around it. */
function appErrorOf(error: unknown): AppError | undefined {
  if (error instanceof AppError) return error
  return error instanceof GraphQLError && error.originalError ? appErrorOf(error.originalError) : undefined
}

function faultOfDocument(error: unknown): { code: ErrorCode; message: string; http: unknown } | undefined {
  if (!(error instanceof GraphQLError) || (error.originalError && !(error.originalError instanceof GraphQLError)))
    return undefined
  const isTooLarge = error.extensions['code'] === 'TOO_LARGE' || /more than \d+ tokens/.test(error.message)
  return {
    code: isTooLarge ? 'TOO_LARGE' : 'BAD_INPUT',
    message: withoutValues(error.message),
    http: error.extensions['http'],
  }
}

// GraphQL quotes what it refuses, and that may be a password in the wrong field: types, fields and places stay, values go.
// Texts of graphql 17: "..., found: <value>.", "... value: <value>", 'Value "<value>" does not exist in ...'; of the
// executor: 'Variable "$x" got invalid value <value> at "x.y"; <reason>', whose reason may quote the value again.
function withoutValues(message: string): string {
  if (message.startsWith('Syntax Error')) return message.replace(/,? ?["'][\s\S]*$/, '')
  const variable = /^Variable "\$(\w+)" got invalid value /.exec(message)?.[1]
  if (variable !== undefined) {
    const place = / at "([\w.[\]]+)"; [^;]*$/.exec(message)?.[1] ?? variable
    const reason = /; ((?:Expected|Field) (?:[^";:]|"[\w![\]]+")*)$/.exec(message)?.[1]
    return `The value of ${place} does not fit${reason ? `: ${reason}` : '.'}`
  }
  return message
    .replace(/(?:,? [Ff]ound|(?<!invalid) value): [\s\S]*$/, '.')
    .replace(/(Value )"[\s\S]*" (does not exist in)/, '$1given $2')
}

/** What went wrong in the driver's own words: the wrapper around them quotes the statement with its values. */
export function innermost(error: unknown): unknown {
  if (error instanceof GraphQLError && error.originalError) return innermost(error.originalError)
  return error instanceof Error && error.cause !== undefined ? innermost(error.cause) : error
}
