import type { AppError } from '../../shared/errors.ts'
import { retryAfter } from '../graphql/errors.ts'

/** The answer to a request that is refused as a whole: one error with its public code, and when to ask again if that is known. */
export function refuse(error: AppError, requestId: string, headers: Record<string, string> = {}): Response {
  const { code, hint, message, status } = error
  return Response.json(
    { errors: [{ message, extensions: { code, hint, requestId } }] },
    { status, headers: { 'x-request-id': requestId, ...retryAfter(error), ...headers } },
  )
}

/**
 * A refusal in the form by which clients of GraphQL over HTTP tell an answer of the API from that of a proxy between, if they
 * ask for it: under another they do not look for errors in it.
 */
export function asAccepted({ headers }: Request, response: Response): Response {
  const form = 'application/graphql-response+json'
  const isPlain = response.headers.get('content-type')?.startsWith('application/json') ?? false
  if (!response.ok && isPlain && headers.get('accept')?.includes(form))
    response.headers.set('content-type', `${form}; charset=utf-8`)
  return response
}
