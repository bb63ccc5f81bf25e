import { z } from 'zod'

/** A message for QStash: where it goes, what it says, and how it is delivered. Seconds. */
export type QStashMessage = {
  url: string
  body: string
  flowControl?: { key: string; parallelism: number; rate: number; period: number }
  deduplicationId: string
  timeout: number
  retries: number
  label: string
  /** Who is told when the last try has failed. */
  failureCallback?: string
}

/** The calls of QStash that the product makes. Each throws the service's words, and is safe to repeat. */
export type QStashCalls = {
  /** Sends messages; each is answered by its id, or by why it was refused. */
  batch(messages: readonly QStashMessage[]): Promise<object[]>
  flowControl: {
    pause(key: string): Promise<void>
    resume(key: string): Promise<void>
    pin(key: string, limits: { parallelism: number }): Promise<void>
  }
  schedules: {
    list(): Promise<{ scheduleId: string; cron: string; destination: string; isPaused: boolean }[]>
    create(schedule: {
      scheduleId: string
      destination: string
      cron: string
      body: string
      retries: number
      timeout: number
    }): Promise<void>
    resume(scheduleId: string): Promise<void>
  }
}

const answersShape = z.array(z.looseObject({}))
const schedulesShape = z.array(
  z.looseObject({
    scheduleId: z.string(),
    cron: z.string().default(''),
    destination: z.string().default(''),
    isPaused: z.boolean().default(false),
  }),
)
const json = { 'content-type': 'application/json' }
const textMax = 500

/**
 * QStash by fetch alone, as its REST interface is described: its own library holds much that is never called here, and the
 * edge has to fetch and start what it is given. A call whose connection breaks is made once more.
 */
export function qstashCalls(baseUrl: string, token: string): QStashCalls {
  async function call(
    method: 'GET' | 'POST' | 'PATCH',
    path: string,
    { headers = {}, body }: { headers?: Record<string, string>; body?: string } = {},
  ): Promise<Response> {
    const request = { method, headers: { authorization: `Bearer ${token}`, ...headers }, body: body ?? null }
    const ask = (): Promise<Response> => fetch(`${baseUrl.replace(/\/$/, '')}/v2/${path}`, request)
    const response = await ask().catch(ask)
    if (response.ok) return response
    throw new Error(`QStash answers with status ${response.status}: ${(await response.text()).slice(0, textMax)}`)
  }
  const told = async (...asked: Parameters<typeof call>): Promise<void> => {
    await (await call(...asked)).body?.cancel()
  }
  const flow = (key: string, verb: string): string => `flowControl/${encodeURIComponent(key)}/${verb}`
  return {
    async batch(messages) {
      const body = JSON.stringify(messages.map(batched))
      return answersShape.parse(await (await call('POST', 'batch', { headers: json, body })).json())
    },
    flowControl: {
      pause: (key) => told('POST', flow(key, 'pause')),
      resume: (key) => told('POST', flow(key, 'resume')),
      pin: (key, { parallelism }) => told('POST', `${flow(key, 'pin')}?parallelism=${parallelism}`),
    },
    schedules: {
      list: async () => schedulesShape.parse(await (await call('GET', 'schedules')).json()),
      create: ({ scheduleId, destination, cron, body, retries, timeout }) =>
        told('POST', `schedules/${destination}`, {
          headers: {
            ...json,
            'upstash-schedule-id': scheduleId,
            'upstash-cron': cron,
            'upstash-method': 'POST',
            'upstash-retries': String(retries),
            'upstash-timeout': `${timeout}s`,
          },
          body,
        }),
      resume: (scheduleId) => told('PATCH', `schedules/${encodeURIComponent(scheduleId)}/resume`),
    },
  }
}

function batched({
  url,
  body,
  flowControl,
  deduplicationId,
  timeout,
  retries,
  label,
  failureCallback,
}: QStashMessage): object {
  return {
    destination: url,
    headers: {
      ...json,
      'upstash-method': 'POST',
      'upstash-deduplication-id': deduplicationId,
      'upstash-timeout': `${timeout}s`,
      'upstash-retries': String(retries),
      'upstash-label': label,
      ...(failureCallback === undefined ? {} : { 'upstash-failure-callback': failureCallback }),
      ...(flowControl
        ? {
            'upstash-flow-control-key': flowControl.key,
            'upstash-flow-control-value': `parallelism=${flowControl.parallelism}, rate=${flowControl.rate}, period=${flowControl.period}s`,
          }
        : {}),
    },
    body,
  }
}
