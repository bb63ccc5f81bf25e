import { Kind, parse, validate } from 'graphql'
import { faultOfSize } from '../graphql/limits.ts'
import { schema } from '../graphql/schema.ts'
import type { Params } from '../http/read-params.ts'

/** The mutations that need neither key nor token: they are how somebody comes to one. */
export const publicFields: readonly string[] = [
  'login',
  'refreshSession',
  'activateAccount',
  'requestPasswordReset',
  'resetPassword',
]

/** The body of a stranger's request, in bytes. */
export const publicBodyBytes = 16_384
const tokensMax = 200

/**
 * Whether a request without a bearer may be answered: a POST of one operation, which is a valid mutation of one field of the
 * list, without fragments, directives or an alias. What is not valid is not said why, since that would tell what types
 * there are.
 */
export function isPublicDocument({ method, headers }: Request, { query }: Params): boolean {
  if (carriesBearer(headers) || method !== 'POST') return false
  try {
    const document = parse(query, { maxTokens: tokensMax })
    if (faultOfSize(document)) return false
    const [operation, ...others] = document.definitions
    if (operation?.kind !== Kind.OPERATION_DEFINITION || others.length > 0) return false
    if (String(operation.operation) !== 'mutation' || (operation.directives?.length ?? 0) > 0) return false
    const [field, ...more] = operation.selectionSet.selections
    if (field?.kind !== Kind.FIELD || more.length > 0) return false
    if (field.alias || (field.directives?.length ?? 0) > 0 || !publicFields.includes(field.name.value)) return false
    return validate(schema, document, undefined, { maxErrors: 1 }).length === 0
  } catch {
    return false
  }
}

/** Whether a request carries something, right or wrong. Who brings a wrong key or token is refused for it, whatever the document is. */
export const carriesBearer = (headers: Headers): boolean => headers.has('authorization') || headers.has('x-api-key')
