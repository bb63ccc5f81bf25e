import { AppError, type ErrorCode } from '../../shared/errors.ts'
import { abortedError } from '../aborted.ts'

/**
 * What a PostgreSQL server or the way to it did wrong, as an error that a tenant can act on. The server's own text is
 * shown where it speaks of the query or of itself, cut to 300 characters: it comes from outside. Where it speaks of rows
 * their values are left out.
 */
export function postgresError(error: unknown, signal: AbortSignal, at: { isConnecting?: boolean } = {}): AppError {
  if (signal.aborted) return abortedError(signal)
  if (error instanceof AppError) return error
  const state = sqlState(error)
  const cause = error
  if (state === undefined) return connectionError(error, at.isConnecting === true)
  const says = text(error)
  if (state.startsWith('28'))
    return new AppError('CREDENTIAL_REJECTED', 'The server refused this user or password.', { cause })
  if (state === '3D000') return new AppError('CREDENTIAL_REJECTED', 'The server has no such database.', { cause })
  if (state === '25006') return new AppError('SQL_NOT_ALLOWED', 'The query writes; a source is only read.', { cause })
  if (state.startsWith('22'))
    return new AppError('SQL_INVALID', `The server says: ${says.replace(/"[\s\S]*"|: [\s\S]*$/, '…')}`, { cause })
  if (/^(42|0A|26)/.test(state)) return new AppError('SQL_INVALID', `The server says: ${says}`, { cause })
  if (state === '57014') return new AppError('SOURCE_FAILED', 'The server ended the query.', { cause })
  const code: ErrorCode = at.isConnecting ? 'CONNECTION_FAILED' : 'SOURCE_FAILED'
  return new AppError(
    code,
    ofItself.test(state) ? `The server says: ${says} (${state})` : `The server failed (${state}).`,
    {
      cause,
    },
  )
}

// Classes of what a server says of itself: connections, transactions, locks, resources, operators. Others may quote rows, as
// exceptions that a function of its database raises.
const ofItself = /^(08|25|40|53|54|55|57|58)/

function connectionError(error: unknown, isConnecting: boolean): AppError {
  const cause = error
  const says = text(error)
  if (/does not support SSL/i.test(says))
    return new AppError(
      'CONNECTION_FAILED',
      'The server offers no encryption: set ssl to false, or turn it on there.',
      { cause },
    )
  if (/certificate|self.signed|altnames/i.test(says))
    return new AppError('CONNECTION_FAILED', "The server's certificate is not trusted.", { cause })
  if (isConnecting) return new AppError('CONNECTION_FAILED', `No connection to the server${reason(error)}.`, { cause })
  return new AppError('SOURCE_FAILED', 'The connection to the server broke off.', { cause })
}

function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const reasons: Record<string, string> = {
    ECONNREFUSED: ': it refused',
    ETIMEDOUT: ': it did not answer in time',
    EHOSTUNREACH: ': it cannot be reached',
    ECONNRESET: ': it hung up',
  }
  return reasons[code] ?? (/timeout/i.test(text(error)) ? ': it did not answer in time' : '')
}

// A code of five characters comes from the server; codes of Node are longer and begin with E.
function sqlState(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]{4}$/.test(code) ? code : undefined
}

function text(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  // oxlint-disable-next-line no-control-regex -- a server may send anything
  return message.replace(/[\u0000-\u001f\u007f]+/g, ' ').slice(0, 300)
}
