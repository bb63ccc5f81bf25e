import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import type { Ports } from '../../shared/ports.ts'
import { receiveDelivery, type Sender } from '../../shared/qstash/receive-delivery.ts'
import { wakeMessage } from '../../shared/waking/wake-message.ts'
import { readText } from './read-body.ts'

// What the report repeats of the last answer may be the page of a proxy.
const reportBytesMax = 262_144

const count = z.int().nonnegative()
const report = z.object({
  status: count,
  retried: count.optional(),
  dlqId: z.string().max(200).optional(),
  sourceBody: z
    .base64()
    .max(4096)
    .transform((text, check) => {
      try {
        return wakeMessage.parse(JSON.parse(atob(text)))
      } catch {
        check.addIssue({ code: 'custom', message: 'no wake-up' })
        return z.NEVER
      }
    }),
})

/**
 * QStash's report that it gave up a wake-up: logs `wake.undelivered` with its queue, the last status (0: no answer) and its
 * number among the dead letters, and nothing that the other side said. The rows stay the truth: the next tick wakes whoever
 * was missed. Throws UNAUTHENTICATED for whoever is not QStash, BAD_INPUT for what is no such report, TOO_LARGE above 256 KiB.
 */
export async function receiveFailedWake(ports: Ports, request: Request, sender: Sender): Promise<Response> {
  const body = await readText(request, reportBytesMax)
  await receiveDelivery(ports, 'api', sender, { signature: request.headers.get('upstash-signature'), body })
  const { status, retried, dlqId, sourceBody } = read(body)
  const { tenantId, queue } = sourceBody
  ports.log.warn('wake.undelivered', { tenantId, queue, status, retried, dlqId })
  return new Response(null, { status: 204 })
}

function read(body: string): z.output<typeof report> {
  try {
    return report.parse(JSON.parse(body))
  } catch (cause) {
    throw new AppError('BAD_INPUT', 'This is no report of a wake-up that was given up.', { cause })
  }
}
