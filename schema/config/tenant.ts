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

/**
 * Plans and what they allow. Bytes and counts; `memoryBytes` is what DuckDB may use in the tenant's process, `diskBytes`
 * what lake and files may take, `weight` its share of the workers' time beside tenants that want it too. Months are UTC.
 */
export const plans = {
  STARTER: {
    maxRunningTotal: 2,
    weight: 1,
    maxRunningPerQueue: 1,
    maxQueuedRuns: 50,
    memoryBytes: 512 * 2 ** 20,
    threads: 1,
    diskBytes: 10 * 2 ** 30,
    runsPerMonth: 1000,
    rowsPerMonth: 10_000_000,
    apiPointsPerMinute: 6000,
    maxMembers: 10,
    maxApiKeys: 20,
    maxCredentials: 20,
    maxPipelines: 50,
  },
  SCALE: {
    maxRunningTotal: 4,
    weight: 2,
    maxRunningPerQueue: 2,
    maxQueuedRuns: 500,
    memoryBytes: 1024 * 2 ** 20,
    threads: 2,
    diskBytes: 100 * 2 ** 30,
    runsPerMonth: 20_000,
    rowsPerMonth: 1_000_000_000,
    apiPointsPerMinute: 30_000,
    maxMembers: 100,
    maxApiKeys: 200,
    maxCredentials: 200,
    maxPipelines: 500,
  },
  ENTERPRISE: {
    maxRunningTotal: 16,
    weight: 4,
    maxRunningPerQueue: 8,
    maxQueuedRuns: 5000,
    memoryBytes: 4096 * 2 ** 20,
    threads: 4,
    diskBytes: 1024 * 2 ** 30,
    runsPerMonth: 500_000,
    rowsPerMonth: 100_000_000_000,
    apiPointsPerMinute: 300_000,
    maxMembers: 5000,
    maxApiKeys: 2000,
    maxCredentials: 2000,
    maxPipelines: 5000,
  },
} as const
/** A plan's name. */
export type Plan = keyof typeof plans
/** What may be allowed, and set for one tenant beside its plan. */
export type PlanLimits = { -readonly [name in keyof (typeof plans)['STARTER']]: number }

/** A tenant's row of limits: the plan's numbers, and what the platform set beside them. */
export function limitsOf(plan: Plan, overrides: Partial<PlanLimits> = {}) {
  // How many steps a queue runs at once stands with the queue.
  const { maxRunningPerQueue: _perQueue, ...limits } = { ...plans[plan], ...overrides }
  return { ...limits, overrides }
}

/** Steps that each queue of a tenant runs at once. */
export const queueLimitOf = (plan: Plan, overrides: Partial<PlanLimits> = {}): number =>
  overrides.maxRunningPerQueue ?? plans[plan].maxRunningPerQueue
