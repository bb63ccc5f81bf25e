import { z } from 'zod'
import { edgeEnv } from '../control-plane/env.ts'
import { qstashFaults } from '../shared/qstash/env.ts'
import { withTls } from '../shared/redis/env.ts'
import { splitApiKey } from '../shared/secrets/api-key.ts'
import { processEnv } from '../workers/env.ts'

/** Environment of the control plane of the self-hosted mode. */
export const controlPlaneEnv = processEnv
  .extend({
    /** Address of the API. */
    HOST: z.string().default('127.0.0.1'),
    /** Port of the API. */
    PORT: z.coerce.number().int().min(0).max(65_535).default(8080),
    /** API key of the platform, `key_<id>.<secret>`, stored at the start; without it make one with `npm run platform-key`. */
    PLATFORM_API_KEY: z
      .string()
      .refine((token) => splitApiKey(token) !== undefined, 'expected key_<id>.<secret>')
      .optional(),
    ALLOWED_ORIGINS: edgeEnv.shape.ALLOWED_ORIGINS,
    ACCOUNT_URL: edgeEnv.shape.ACCOUNT_URL,
  })
  .refine(...withTls)
  .superRefine(qstashFaults)
/** The parsed environment. */
export type ControlPlaneEnv = z.output<typeof controlPlaneEnv>
