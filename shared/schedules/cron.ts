import { Cron } from 'croner'

/** Times of a schedule: five cron fields or a nickname, read in a time zone. */
export type CronTimes = { cron: string; timezone: string }

/**
 * The next `count` times strictly after a moment, oldest first; fewer when there are no more. A fixed time that a change
 * of clocks leaves out comes at the first moment after the gap, one that comes twice counts the first time; steps over
 * hours (`*` and lists) follow the time that passes.
 */
export function nextTimes(times: CronTimes, after: Date, count: number): Date[] {
  return cronOf(times).nextRuns(count, after)
}

/** The last `count` times at or before a moment, newest first. */
export function lastTimes(times: CronTimes, until: Date, count: number): Date[] {
  // The library leaves the moment itself out, and knows whole seconds.
  return cronOf(times).previousRuns(count, new Date(Math.floor(until.getTime() / 1000) * 1000 + 1000))
}

/** The day of a moment in a zone, as `2026-11-20`. */
export function dayIn(timezone: string, moment: Date): string {
  return new Intl.DateTimeFormat('en-CA', {
    timeZone: timezone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
  }).format(moment)
}

/** Why a text is no cron expression of ours; undefined for one that has times. */
export function cronFault(cron: string): string | undefined {
  const fields = cron.trim().split(/\s+/)
  if (!nicknames.includes(cron) && (fields.length !== 5 || !fields.every(isField)))
    return 'expected five fields such as "0 2 * * *": minute hour day month weekday'
  try {
    return cronOf({ cron, timezone: 'UTC' }).nextRun(reference) === null
      ? 'there is no such day in any year'
      : undefined
  } catch (error) {
    return `expected five fields such as "0 2 * * *"${error instanceof Error ? `: ${reasonOf(error)}` : ''}`
  }
}

/** Why a text is no time zone; undefined for an IANA name. */
export function zoneFault(name: string): string | undefined {
  const fault = 'expected an IANA name such as "Europe/Vienna"'
  // Offsets are taken by the runtime and know no summer.
  if (!/^[A-Za-z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+)*$/.test(name)) return fault
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone === '' ? fault : undefined
  } catch {
    return fault
  }
}

/** Whether two of the times lie less than so many minutes apart. */
export function isTooOften(times: CronTimes, minutes: number): boolean {
  // Five fields know no seconds.
  if (minutes <= 1) return false
  const next = nextTimes(times, reference, 64).map((at) => at.getTime())
  return next.slice(1).some((at, index) => at - (next[index] ?? at) < minutes * 60_000)
}

// Which times a cron has at all, and how close they lie, is the same in any year: the answer must not change by the hour.
const reference = new Date(Date.UTC(2026, 0, 1))

const nicknames: readonly string[] = ['@hourly', '@daily', '@weekly', '@monthly', '@yearly']

// What every cron knows. The library takes more (L, W, #, ?), which others read in other ways.
function isField(text: string, position: number): boolean {
  const value = position >= 3 ? '(?:\\d{1,2}|[A-Za-z]{3})' : '\\d{1,2}'
  return text.split(',').every((part) => new RegExp(`^(?:\\*|${value}(?:-${value})?)(?:/\\d{1,2})?$`).test(part))
}

const cronOf = ({ cron, timezone }: CronTimes): Cron => new Cron(cron, { timezone, mode: '5-part', paused: true })

const reasonOf = (error: Error): string => error.message.replace(/^CronPattern: /, '')
