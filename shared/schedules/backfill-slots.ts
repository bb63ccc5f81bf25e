import { type BackfillStep, triggerLimits } from '../../schema/config/triggers.ts'
import { type CronTimes, dayIn, nextTimes } from './cron.ts'

/** A slot of a backfill and the day that `{date}` stands for in its run. */
export type Slot = { slotAt: Date; day: string }

/**
 * The slots of a range of days, both ends in it, oldest first: each day, every seventh, the same day of each month (the
 * last one where a month is shorter), or the times of a schedule in its zone. One more than a backfill may have when there
 * are too many.
 */
export function backfillSlots(
  range: { from: string; to: string },
  every: Exclude<BackfillStep, 'SCHEDULE'> | CronTimes,
): Slot[] {
  const slots: Slot[] = []
  if (typeof every === 'object') {
    // No zone is further from UTC than a day.
    for (let after = addDays(range.from, -2); slots.length <= triggerLimits.slotsMax;) {
      const [slotAt] = nextTimes(every, after, 1)
      if (!slotAt) break
      const day = dayIn(every.timezone, slotAt)
      if (day > range.to) break
      if (day >= range.from) slots.push({ slotAt, day })
      after = slotAt
    }
    return slots
  }
  for (let n = 0; slots.length <= triggerLimits.slotsMax; n++) {
    const slotAt = every === 'MONTH' ? addMonths(range.from, n) : addDays(range.from, every === 'WEEK' ? 7 * n : n)
    const day = slotAt.toISOString().slice(0, 10)
    if (day > range.to) break
    slots.push({ slotAt, day })
  }
  return slots
}

const startOf = (day: string): Date => new Date(`${day}T00:00:00Z`)

const addDays = (day: string, days: number): Date => new Date(startOf(day).getTime() + days * 86_400_000)

function addMonths(day: string, months: number): Date {
  const at = startOf(day)
  const [year, month] = [at.getUTCFullYear(), at.getUTCMonth() + months]
  const last = new Date(Date.UTC(year, month + 1, 0)).getUTCDate()
  return new Date(Date.UTC(year, month, Math.min(at.getUTCDate(), last)))
}
