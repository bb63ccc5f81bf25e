import { z } from 'zod'
import { queueTypes } from '../../schema/states.ts'
import { tenantIdPattern } from '../ids.ts'

/** The body of a wake-up between machines: which queue to look at, and nothing else. `v` is the version of this form. */
export const wakeMessage = z.strictObject({
  v: z.literal(1),
  tenantId: z.string().regex(tenantIdPattern),
  queue: z.enum(queueTypes),
})
/** A parsed wake-up. */
export type WakeMessage = z.output<typeof wakeMessage>
