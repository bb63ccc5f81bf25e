import { z } from 'zod'
import { lakeVariables } from '../workers/lake/tenant-store.ts'

/** Environment of the embedded mode. */
export const standaloneEnv = z.object({
  /** Where everything is kept. */
  TRIBUTARY_DATA_DIR: z.string().default('./data'),
  /** Address to listen on. */
  HOST: z.string().default('127.0.0.1'),
  /** Port of the API; when unset 8080, or a free one if that is taken. */
  PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  /** Mail server, `smtp://user:password@host:port`; without one mail stays in the outbox. */
  SMTP_URL: z.url({ protocol: /^smtps?$/ }).optional(),
  /** Sender of mail; required with SMTP_URL. */
  SMTP_FROM: z.email().optional(),
  /** Page that takes one-time links, which follow it after `#`; without one mail holds the code alone. */
  ACCOUNT_URL: z.url({ protocol: /^https?$/ }).optional(),
  /** `false` refuses connections to private and loopback addresses; the demo's server is one. */
  ALLOW_PRIVATE_NETWORK: z.stringbool().default(true),
  /** Steps at once over all tenants. */
  WORKER_CAPACITY: z.coerce.number().int().min(1).max(256).default(4),
  /** A folder of DuckDB's extensions, or `install`: with the one that encrypts, tenants' lakes are encrypted. */
  LAKE_EXTENSIONS: lakeVariables.LAKE_EXTENSIONS,
  /** Log level of the process's own log on standard error. */
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('warn'),
})
/** The parsed environment. */
export type StandaloneEnv = z.output<typeof standaloneEnv>
