import type { z } from 'zod'
import { AppError } from './errors.ts'

/**
 * Configuration from the environment, parsed once per process: all faults in one error, each with the variable's name.
 * Empty strings count as absent, so that `NAME=` in a file means "not set".
 */
export function readEnv<S extends z.ZodType>(shape: S, source: Record<string, string | undefined>): z.output<S> {
  const given = Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ''))
  const parsed = shape.safeParse(given)
  if (parsed.success) return parsed.data
  const faults = parsed.error.issues.map((issue) => `  ${issue.path.join('.') || '(environment)'}: ${issue.message}`)
  throw new AppError('BAD_INPUT', `The environment is not usable:\n${faults.join('\n')}`, {
    hint: 'See .env.example for every variable, its form and its default.',
  })
}
