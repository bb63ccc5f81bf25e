import { z } from 'zod'
import { qstashFaults, qstashVariables } from '../shared/qstash/env.ts'
import { upstashVariables, withTls, withToken } from '../shared/redis/env.ts'
import { platformKeysText } from '../shared/secrets/platform-keys.ts'

/** Environment of the edge. */
export const edgeEnv = z
  .object({
    /** PostgreSQL URL of Neon, as a login role that may become tributary_api. */
    DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
    /** `host:port` of a WebSocket proxy in front of PostgreSQL instead of Neon. */
    NEON_PROXY: z.string().optional(),
    /** Keys that wrap the tenants' data keys: `{"current":"k1","keys":{"k1":"<32 bytes, base64>"}}`. */
    PLATFORM_KEYS: platformKeysText,
    /** Page that takes one-time links, which follow it after `#`; without one mail holds the code alone. */
    ACCOUNT_URL: z.url({ protocol: /^https?$/ }).optional(),
    /** Origins that browsers may call from, separated by commas; default none. */
    ALLOWED_ORIGINS: z
      .string()
      .default('')
      .transform((text) => text.split(',').flatMap((origin) => origin.trim() || [])),
    ...upstashVariables,
    ...qstashVariables,
  })
  .refine(...withTls)
  .refine(...withToken)
  .superRefine(qstashFaults)
/** The parsed environment. */
export type EdgeEnv = z.output<typeof edgeEnv>
