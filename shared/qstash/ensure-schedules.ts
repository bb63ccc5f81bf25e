import type { QStash } from './client.ts'

/** The id of the one schedule of a deployment, at QStash. */
export const tickScheduleId = 'tributary-tick'

/** What it took to have the schedule as it should be. */
export type Ensured = 'created' | 'changed' | 'unchanged'

const cron = '* * * * *'

/**
 * Has QStash call `tickUrl` every minute: makes the schedule, or corrects it, or leaves it as it is. Safe at any rate: it
 * has one id. A new one is live within a minute. Throws UNAVAILABLE.
 */
export async function ensureSchedules(
  qstash: QStash,
  tickUrl: string,
  { scheduleId = tickScheduleId, signal }: { scheduleId?: string; signal?: AbortSignal } = {},
): Promise<Ensured> {
  const known = (await qstash.ask(({ schedules }) => schedules.list(), signal)).find(
    (one) => one.scheduleId === scheduleId,
  )
  if (known && known.cron === cron && known.destination === tickUrl && !known.isPaused) return 'unchanged'
  await qstash.ask(async ({ schedules }) => {
    await schedules.create({
      scheduleId,
      destination: tickUrl,
      cron,
      body: JSON.stringify({ v: 1 }),
      // The next minute brings the next one.
      retries: 0,
      timeout: 30,
    })
    if (known?.isPaused) await schedules.resume(scheduleId)
  }, signal)
  return known ? 'changed' : 'created'
}
