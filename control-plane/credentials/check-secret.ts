import { z } from 'zod'
import { credentialShapes } from '../../schema/config/credentials.ts'
import { AppError } from '../../shared/errors.ts'

const charsMax = 65_536
const name = z.string().regex(/^[a-z][a-z0-9_-]{0,62}$/)
const secretObject = z.record(z.string(), z.json()).refine((secret) => JSON.stringify(secret).length <= charsMax)

/** Name and provider of a new credential. Throws BAD_INPUT, and CREDENTIAL_INVALID for an unknown provider. */
export function checkedName(given: { name: string; provider: string }): { name: string; provider: string } {
  if (!name.safeParse(given.name).success)
    throw new AppError(
      'BAD_INPUT',
      'name must be lower case letters, digits, _ and -, begin with a letter and have at most 63 characters.',
      { place: { path: 'name' } },
    )
  if (!Object.hasOwn(credentialShapes, given.provider))
    throw new AppError(
      'CREDENTIAL_INVALID',
      `There is no such provider. Known: ${Object.keys(credentialShapes).join(', ')}.`,
      { place: { path: 'provider' } },
    )
  return { name: given.name, provider: given.provider }
}

/**
 * A secret that fits its provider, with defaults filled in. Throws BAD_INPUT for what is no object or too large, and
 * CREDENTIAL_INVALID with the names of the fields that do not fit. No text repeats a value, nor a name that the provider
 * does not know: a secret may stand in either.
 */
export function checkedSecret(provider: string, given: unknown): Record<string, unknown> {
  const secret = secretObject.safeParse(given)
  if (!secret.success)
    throw new AppError('BAD_INPUT', `secret must be a JSON object of at most ${charsMax} characters.`, {
      place: { path: 'secret' },
    })
  const shape = credentialShapes[provider]
  if (!shape) throw new AppError('CREDENTIAL_INVALID', 'There is no such provider.', { place: { path: 'provider' } })
  const parsed = shape.safeParse(secret.data)
  // Every shape is one of an object.
  if (parsed.success) return parsed.data as Record<string, unknown>
  const fields = [...new Set(parsed.error.issues.map(fieldOf))]
  throw new AppError('CREDENTIAL_INVALID', `The secret does not fit ${provider}: ${fields.join(', ')}.`, {
    place: { path: fields.length === 1 && fields[0] !== unknownField ? `secret.${fields[0]}` : 'secret' },
  })
}

const unknownField = 'a field that it does not take'

// The first part alone: it is a field of the shape, while what stands below may be the caller's.
const fieldOf = (issue: z.core.$ZodIssue): string =>
  issue.code === 'unrecognized_keys' ? unknownField : String(issue.path[0] ?? unknownField)
