/** A structured log: one line per event, fields with plain values. Nothing secret is ever passed to it. */
export type Log = {
  info(event: string, fields?: Record<string, unknown>): void
  warn(event: string, fields?: Record<string, unknown>): void
  error(event: string, fields?: Record<string, unknown>): void
}

/** JSON lines through `write`; the edge's log, where `write` is `console.log`. */
export function jsonLog(write: (line: string) => void, now: () => Date): Log {
  const at =
    (level: string) =>
    (event: string, fields: Record<string, unknown> = {}) =>
      write(JSON.stringify({ at: now().toISOString(), level, event, ...fields }))
  return { info: at('info'), warn: at('warn'), error: at('error') }
}

/** What the log may say of a thrown value: kind, message and the chain of causes, without their fields. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const own = `${error.name}: ${error.message}`
  return error.cause === undefined ? own : `${own} <- ${describeError(error.cause)}`
}
