import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { type HttpReply, passingStatuses } from '../http.ts'
import { jsonOf } from './google-token.ts'

const errorReply = z.object({
  error: z.object({
    message: z.string().default(''),
    errors: z.array(z.object({ reason: z.string().default('') })).default([]),
  }),
})

const hurried = new Set(['rateLimitExceeded', 'userRateLimitExceeded', 'backendError', 'jobRateLimitExceeded'])
// Of the query itself; what else comes with status 400 is of the request or of the credential's fields.
const queryReasons = new Set([
  'invalidQuery',
  'invalid',
  'resourcesExceeded',
  'responseTooLarge',
  'bytesBilledLimitExceeded',
])

// Of a value that the query read, and quoting it: "Bad int64 value: abc", "Could not cast literal …", "Invalid date: '…'".
const ofValue =
  /\b(bad \w+ value|invalid (?:\w+ value|date|time|datetime|timestamp)|(?:could not|cannot|failed to) (?:cast|parse|convert))\b[\s\S]*$/i

/** True for an answer that means: not now. Google says some of them with status 403. */
export function isPassing(reply: HttpReply): boolean {
  return passingStatuses.has(reply.status) || (reply.status === 403 && hurried.has(read(reply).reason))
}

/**
 * What BigQuery refused, as an error that a tenant can act on. Its own text is shown for faults of the query only, cut
 * to 300 characters and without `secrets`: it comes from outside.
 */
export function bigqueryError(reply: HttpReply, secrets: readonly string[]): AppError {
  const { reason, message } = read(reply)
  const says = secrets
    .reduce((text, secret) => text.replaceAll(secret, '…'), message)
    // oxlint-disable-next-line no-control-regex -- a server may send anything
    .replace(/[\u0000-\u001f\u007f]+/g, ' ')
    .slice(0, 300)
  const context = { status: reply.status, reason: reason.slice(0, 100) }
  if (hurried.has(reason) || reason === 'quotaExceeded' || reply.status === 429)
    return new AppError('SOURCE_FAILED', 'BigQuery takes no more of this project for now.', { context, retry: 'later' })
  if (queryReasons.has(reason))
    return new AppError('SQL_INVALID', `BigQuery says: ${says.replace(ofValue, '$1 …')}`, { context })
  if (reply.status === 401 || reply.status === 403)
    return new AppError('CREDENTIAL_REJECTED', 'BigQuery refused this service account.', {
      context,
      hint: 'It needs the roles BigQuery Job User on the project and BigQuery Data Viewer on what it reads.',
    })
  if (reply.status === 404)
    return new AppError('SOURCE_FAILED', `BigQuery says: ${says}`, {
      context,
      retry: 'never',
      hint: 'Check project, dataset, table and location.',
    })
  const retry = passingStatuses.has(reply.status) ? 'later' : 'never'
  return new AppError('SOURCE_FAILED', `BigQuery answered with status ${reply.status}.`, { context, retry })
}

function read(reply: HttpReply): { reason: string; message: string } {
  const parsed = errorReply.safeParse(jsonOf(reply.body)).data?.error
  return { reason: parsed?.errors[0]?.reason ?? '', message: parsed?.message ?? '' }
}
