import { Kind, parse, validate } from 'graphql'
import { z } from 'zod'
import { schema } from '../graphql/schema.ts'

/** The mutations that need neither key nor token: they are how somebody comes to one. */
export const publicFields: readonly string[] = [
  'login',
  'refreshSession',
  'activateAccount',
  'requestPasswordReset',
  'resetPassword',
]

const limits = { bodyBytes: 16_384, tokens: 200 } as const
const bodyShape = z.strictObject({
  query: z.string(),
  variables: z.record(z.string(), z.unknown()).nullish(),
  operationName: z.string().nullish(),
  extensions: z.unknown().optional(),
})

/**
 * Whether a request without a bearer may be answered: a POST of one operation, which is a valid mutation of one field of the
 * list, without fragments, directives or an alias. What is not valid is not said why, since that would tell what types
 * there are. The body must be in memory; it can still be read after this.
 */
export async function isPublicDocument(request: Request): Promise<boolean> {
  if (carriesBearer(request.headers) || request.method !== 'POST') return false
  const text = await request.clone().text()
  if (text.length > limits.bodyBytes) return false
  try {
    const document = parse(bodyShape.parse(JSON.parse(text)).query, { maxTokens: limits.tokens })
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

// Who brings a wrong key or token is refused for it, whatever the document is.
const carriesBearer = (headers: Headers): boolean => headers.has('authorization') || headers.has('x-api-key')
