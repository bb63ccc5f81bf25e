import { z } from 'zod'
import { duration, durationMs } from '../schema/config/duration.ts'
import { qstashFaults, qstashVariables } from '../shared/qstash/env.ts'
import { redisVariables, withTls } from '../shared/redis/env.ts'
import { platformKeysText } from '../shared/secrets/platform-keys.ts'
import { lakeFaults, lakeVariables } from './lake/tenant-store.ts'

const port = z.coerce.number().int().min(0).max(65_535)

/** What both processes of the self-hosted mode read. */
export const processEnv = z.object({
  /** PostgreSQL URL, as a login that may become the role of this process's side and is no superuser. */
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  /** Keys that wrap the tenants' data keys: `{"current":"k1","keys":{"k1":"<32 bytes, base64>"}}`. */
  PLATFORM_KEYS: platformKeysText,
  /** Address of `/healthz`, `/readyz` and `/metrics`. */
  HEALTH_HOST: z.string().default('127.0.0.1'),
  /** Their port; when unset 8081 for the control plane and 8082 for a worker, or a free one if that is taken. */
  HEALTH_PORT: port.optional(),
  /** What requests and running steps get to end by themselves when the process is told to stop. */
  STOP_GRACE: duration.default('30s').transform(durationMs),
  /** Log level of the process's own log on standard error. */
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  ...redisVariables,
  ...qstashVariables,
})

/** Environment of a worker of the self-hosted mode. */
export const workerEnv = processEnv
  .extend({
    /** Where the tenants' lakes and files are. Workers that serve the same tenants share it. */
    TRIBUTARY_DATA_DIR: z.string().default('./data'),
    /** Steps at once over all tenants. */
    WORKER_CAPACITY: z.coerce.number().int().min(1).max(256).default(4),
    /** `true` allows connections to private and loopback addresses. */
    ALLOW_PRIVATE_NETWORK: z.stringbool().default(false),
    /** Mail server, `smtp://user:password@host:port`; without one mail stays in the outbox. */
    SMTP_URL: z.url({ protocol: /^smtps?$/ }).optional(),
    /** Sender of mail; required with SMTP_URL. */
    SMTP_FROM: z.email().optional(),
    /** Address and port where QStash's wake-ups come in; they are served when its signing keys and WAKE_URL are set. */
    WAKE_HOST: z.string().default('127.0.0.1'),
    WAKE_PORT: port.default(8083),
    ...lakeVariables,
    /** Address where control planes read tenants' rows; served unless QStash wakes the worker, and always with READER_URL. */
    READER_HOST: z.string().default('127.0.0.1'),
    /** Its port; when unset 8084, or a free one if that is taken. */
    READER_PORT: port.optional(),
    /** Where control planes reach that door; default: where it listens, by the name of this machine if that is on all of its addresses. */
    READER_URL: z
      .url({ protocol: /^https?$/ })
      .transform((url) => url.replace(/\/+$/, ''))
      .optional(),
    /** For how long a wake-up may stay unanswered while there is work, to keep a container alive; without it each is answered at once. */
    WAKE_HOLD: duration
      .refine((text) => durationMs(text) <= 240_000, '4m at most')
      .transform(durationMs)
      .optional(),
  })
  .refine(({ SMTP_URL, SMTP_FROM }) => SMTP_URL === undefined || SMTP_FROM !== undefined, {
    path: ['SMTP_FROM'],
    message: 'required with SMTP_URL',
  })
  .refine(...withTls)
  .superRefine(qstashFaults)
  .superRefine(lakeFaults)
/** The parsed environment. */
export type WorkerEnv = z.output<typeof workerEnv>
