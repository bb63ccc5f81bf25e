import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'

const name = z.string().regex(/^[^\p{Cc}]{0,100}$/u)

/** What is personal of a person, as it comes in. */
export const personalFields = {
  email: z.email().max(254),
  username: name.min(1),
  firstName: name,
  lastName: name,
}

/** Input of this shape, or BAD_INPUT that names the field and never its value. */
export function checkedFields<Shape extends z.ZodType>(shape: Shape, given: unknown): z.output<Shape> {
  const parsed = shape.safeParse(given)
  if (parsed.success) return parsed.data
  const field = String(parsed.error.issues[0]?.path[0] ?? 'email')
  throw new AppError('BAD_INPUT', faults[field] ?? `${field} is not usable.`, { place: { path: field } })
}

/** The refusal of an address that another person of the tenant has. */
export const emailTaken = (): AppError =>
  new AppError('ALREADY_EXISTS', 'A person of the tenant has this address.', { place: { path: 'email' } })

const faults: Record<string, string> = {
  email: 'email must be an address of at most 254 characters.',
  username: 'username must be 1 to 100 characters on one line.',
  firstName: 'firstName must be at most 100 characters on one line.',
  lastName: 'lastName must be at most 100 characters on one line.',
}
