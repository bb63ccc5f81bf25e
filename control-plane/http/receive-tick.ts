import type { Ports } from '../../shared/ports.ts'
import { deliveryBytesMax, receiveDelivery, type Sender } from '../../shared/qstash/receive-delivery.ts'
import { keepHouse } from '../keep-house.ts'
import { readText } from './read-body.ts'

/**
 * The minute's call of the schedule at QStash: does the housekeeping, and answers how much was due. Throws UNAUTHENTICATED
 * for whoever is not QStash, TOO_LARGE for a body that is not of our schedule, and what the housekeeping throws.
 */
export async function receiveTick(ports: Ports, request: Request, sender: Sender): Promise<Response> {
  const body = await readText(request, deliveryBytesMax)
  await receiveDelivery(ports, 'api', sender, { signature: request.headers.get('upstash-signature'), body })
  return Response.json(await keepHouse(ports))
}
