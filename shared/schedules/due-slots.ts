import { type Misfire, triggerLimits } from '../../schema/config/triggers.ts'
import { type CronTimes, lastTimes, nextTimes } from './cron.ts'

/** What a schedule's times and policy say at one moment. */
export type DueSlots = {
  /** Slots to fire now, oldest first; at most 10, of more the rest is due at once again. */
  fire: Date[]
  /** The first and the last of those that are passed over, if any are. */
  missed: { first: Date; last: Date } | undefined
  /** The slot after these; null when the schedule has no further times. */
  next: Date | null
}

const slotsAtOnce = 10

/**
 * Which slots from `from` (the first one that has not been decided) until `now` are fired. `skip` fires the last one, if it
 * is no older than five minutes; `latest` the last one; `all` the last `catchupMax` ones. Costs no more after a long
 * outage than after a short one.
 */
export function dueSlots(
  schedule: CronTimes & { misfire: Misfire; catchupMax: number },
  from: Date,
  now: Date,
): DueSlots {
  const wanted = schedule.misfire === 'all' ? schedule.catchupMax : 1
  const due = lastTimes(schedule, now, wanted)
    .filter((at) => at >= from)
    .toReversed()
  const late =
    schedule.misfire === 'skip' ? due.filter((at) => now.getTime() - at.getTime() > triggerLimits.graceMs) : []
  const fire = due.slice(late.length, late.length + slotsAtOnce)
  const decided = fire.at(-1) ?? now
  const first = fire[0]
  const passed = first === undefined ? lastTimes(schedule, now, 1)[0] : lastTimes(schedule, before(first), 1)[0]
  return {
    fire,
    missed: passed && passed >= from ? { first: from, last: passed } : undefined,
    next: nextTimes(schedule, decided, 1)[0] ?? null,
  }
}

const before = (at: Date): Date => new Date(at.getTime() - 1000)
