import { z } from 'zod'

const key = z.string().refine((text) => bytesOf(text) === 32)

/** Form of the platform keys: `current` names the one that wraps what is new, each of `keys` is 32 bytes in base64. */
export const platformKeysShape = z
  .object({ current: z.string(), keys: z.record(z.string(), key) })
  .refine(({ current, keys }) => Object.hasOwn(keys, current))

/** The platform keys as a variable of the environment, in JSON. What is said of faulty ones repeats nothing of them. */
export const platformKeysText = z.string().transform((text, context) => {
  const parsed = platformKeysShape.safeParse(jsonOf(text))
  if (parsed.success) return parsed.data
  context.addIssue({ code: 'custom', message: 'expected {"current":"k1","keys":{"k1":"<32 bytes, base64>"}}' })
  return z.NEVER
})

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function bytesOf(base64: string): number {
  try {
    return atob(base64).length
  } catch {
    return 0
  }
}
