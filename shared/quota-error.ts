import { z } from 'zod'
import { type Quota, quotas } from '../schema/config/quotas.ts'
import { AppError } from './errors.ts'

/** A refusal as the ledger and the counters of the database give it. */
export const quotaRefusal = z.object({
  // The list is closed on both sides.
  quota: z.enum(Object.keys(quotas) as [Quota, ...Quota[]]),
  limit: z.number(),
  used: z.number(),
  resetsAt: z.string().nullable(),
})

/** A used-up quota as an error that the caller can act on. */
export function quotaExceeded({ quota, limit, used, resetsAt }: z.output<typeof quotaRefusal>): AppError {
  return new AppError('QUOTA_EXCEEDED', `${used} of ${limit} are used. ${quotas[quota].description}`, {
    figures: { quota: { name: quota, limit, used, resetsAt } },
    hint:
      resetsAt === null
        ? 'Give up what is not needed, or raise the plan.'
        : 'Wait for the next month, or raise the plan.',
  })
}

/** The error behind what the database threw when its counters refused one thing too many; undefined for anything else. */
export function quotaError(thrown: unknown): AppError | undefined {
  for (let at = thrown; at instanceof Error; at = at.cause) {
    if (!('code' in at) || at.code !== 'TRQ01' || !('detail' in at) || typeof at.detail !== 'string') continue
    return quotaExceeded(quotaRefusal.parse(JSON.parse(at.detail)))
  }
  return undefined
}
