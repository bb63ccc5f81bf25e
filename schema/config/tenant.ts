import { z } from 'zod'

/**
 * A tenant's configuration, five sections, each with defaults. It holds no secret: passwords and keys are credentials,
 * named here by `credential`.
 */
export const tenantConfiguration = z.strictObject({
  database: z
    .strictObject({
      /** The tenant's own name space for tables; `raw` and the `x_meta_` tables live in it. */
      schema: z
        .string()
        .regex(/^[a-z][a-z0-9_]{0,47}$/)
        .default('main'),
      /** Name of the credential of the database that pipelines read when they name none. */
      credential: z.string().max(64).optional(),
    })
    .prefault({}),
  sftp: z
    .strictObject({
      credential: z.string().max(64).optional(),
      remoteDirectory: z.string().max(512).default('/'),
    })
    .prefault({}),
  fileProcessing: z
    .strictObject({
      outputDirectory: z.string().max(255).default('out'),
      format: z.enum(['csv', 'ndjson', 'json', 'parquet']).default('csv'),
      compress: z.boolean().default(true),
    })
    .prefault({}),
  userManagement: z
    .strictObject({
      welcomeMail: z.boolean().default(false),
      defaultRole: z.enum(['DATA_ANALYST', 'DATA_ENGINEER', 'DATA_STEWARD', 'POWER_USER']).default('DATA_ANALYST'),
    })
    .prefault({}),
  monitoring: z
    .strictObject({
      alertEmails: z.array(z.email()).max(20).default([]),
      logLevel: z.enum(['info', 'warn', 'error']).default('info'),
    })
    .prefault({}),
})
/** A tenant's configuration with every default filled in. */
export type TenantConfiguration = z.output<typeof tenantConfiguration>

/** Plans and what they allow. Bytes and counts; `memoryBytes` is what DuckDB may use in the tenant's process. */
export const plans = {
  STARTER: {
    maxRunningTotal: 2,
    maxRunningPerQueue: 1,
    maxQueuedRuns: 50,
    memoryBytes: 512 * 2 ** 20,
    threads: 1,
    diskBytes: 10 * 2 ** 30,
  },
  SCALE: {
    maxRunningTotal: 4,
    maxRunningPerQueue: 2,
    maxQueuedRuns: 500,
    memoryBytes: 1024 * 2 ** 20,
    threads: 2,
    diskBytes: 100 * 2 ** 30,
  },
  ENTERPRISE: {
    maxRunningTotal: 16,
    maxRunningPerQueue: 8,
    maxQueuedRuns: 5000,
    memoryBytes: 4096 * 2 ** 20,
    threads: 4,
    diskBytes: 1024 * 2 ** 30,
  },
} as const
/** A plan's name. */
export type Plan = keyof typeof plans
