import type { PlanLimits } from './tenant.ts'

/** What a plan bounds, and which of its numbers is the bound. The list is closed. */
export const quotas = {
  runsPerMonth: { limit: 'runsPerMonth', isMonthly: true, description: 'Runs started in a month.' },
  rowsPerMonth: { limit: 'rowsPerMonth', isMonthly: true, description: 'Rows loaded into the lake in a month.' },
  storageBytes: { limit: 'diskBytes', isMonthly: false, description: 'Bytes of lake and files, as last measured.' },
  members: { limit: 'maxMembers', isMonthly: false, description: 'People who are not deleted.' },
  apiKeys: { limit: 'maxApiKeys', isMonthly: false, description: 'Keys that are not revoked.' },
  credentials: { limit: 'maxCredentials', isMonthly: false, description: 'Stored credentials.' },
  pipelines: { limit: 'maxPipelines', isMonthly: false, description: 'Saved pipelines.' },
  queuedRuns: { limit: 'maxQueuedRuns', isMonthly: false, description: 'Runs that are unfinished at once.' },
  runningSteps: { limit: 'maxRunningTotal', isMonthly: false, description: 'Steps that run at once; others wait.' },
} as const satisfies Record<string, { limit: keyof PlanLimits; isMonthly: boolean; description: string }>
/** A quota. */
export type Quota = keyof typeof quotas
/** A quota with a counter of its own; the others are counted when asked. */
export type CountedQuota = Exclude<Quota, 'queuedRuns' | 'runningSteps'>
