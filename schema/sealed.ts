import { z } from 'zod'

/**
 * A secret at rest: AES-256-GCM under version `key` of the tenant's data key. `iv` and `ct` are base64url.
 * Bound to tenant, credential and version by additional data, so that a copy in another row does not open.
 */
export const sealedData = z.strictObject({ v: z.literal(1), key: z.int().positive(), iv: z.string(), ct: z.string() })
/** A sealed secret. */
export type SealedData = z.output<typeof sealedData>
