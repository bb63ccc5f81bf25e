import type { Clock } from './clock.ts'
import { liveSecrets } from './redact.ts'

/** A structured log: one line per event, fields with plain values. */
export type Log = {
  info(event: string, fields?: Record<string, unknown>): void
  warn(event: string, fields?: Record<string, unknown>): void
  error(event: string, fields?: Record<string, unknown>): void
}

/** JSON lines through `write`, without secrets; the edge's log, where `write` is `console.log`. */
export function jsonLog(write: (line: string) => void, now: () => Date): Log {
  const at =
    (level: string) =>
    (event: string, fields: Record<string, unknown> = {}) =>
      write(JSON.stringify({ at: now().toISOString(), level, event, ...fields }))
  return withoutSecrets({ info: at('info'), warn: at('warn'), error: at('error') })
}

/** A log that passes on what it is told without the secrets that this process holds and fields named like one. */
export function withoutSecrets(log: Log): Log {
  const clean =
    (write: Log['info']): Log['info'] =>
    (event, fields = {}) =>
      write(event, liveSecrets.fields(fields))
  return { info: clean(log.info), warn: clean(log.warn), error: clean(log.error) }
}

const causesMax = 10

/**
 * What the log may say of a thrown value: kind, message and the chain of causes, without their fields and without the
 * secrets that this process holds.
 */
export function describeError(error: unknown): string {
  const parts: string[] = []
  for (let at = error; parts.length < causesMax;) {
    parts.push(at instanceof Error ? `${at.name}: ${at.message}` : String(at))
    if (!(at instanceof Error) || at.cause === undefined) break
    at = at.cause
  }
  return liveSecrets.text(parts.join(' <- '))
}

/** Lets something be said at most once in `everyMs` (default a minute), and tells how often it happened since the last time. */
export function rarely(clock: Pick<Clock, 'now'>, everyMs = 60_000): (say: (times: number) => void) => void {
  let times = 0
  let silentUntil = -Infinity
  return (say) => {
    times++
    const now = clock.now().getTime()
    if (now < silentUntil) return
    silentUntil = now + everyMs
    say(times)
    times = 0
  }
}
