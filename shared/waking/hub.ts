/** A run whose rows may have changed. */
export type RunHint = { tenantId: string; runId: string }

/**
 * Live progress: says "look" to those who watch a run. Lossy by contract; watchers read the events table after their
 * cursor and look again every few seconds without a hint.
 */
export type Hub = {
  notify(hint: RunHint): void
  /** Resolves at the next hint for this run, after `ms`, or when `signal` aborts; whichever is first. Never rejects. */
  wait(hint: RunHint, ms: number, signal: AbortSignal): Promise<void>
}

/** The hub of a single process. */
export function inProcessHub(): Hub {
  const waiting = new Map<string, Set<() => void>>()
  const keyOf = (hint: RunHint): string => `${hint.tenantId}\n${hint.runId}`
  return {
    notify(hint) {
      for (const end of waiting.get(keyOf(hint)) ?? []) end()
    },
    wait: (hint, ms, signal) =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve()
        const key = keyOf(hint)
        const mine = waiting.get(key) ?? new Set()
        waiting.set(key, mine)
        const end = (): void => {
          clearTimeout(timer)
          signal.removeEventListener('abort', end)
          mine.delete(end)
          if (mine.size === 0 && waiting.get(key) === mine) waiting.delete(key)
          resolve()
        }
        const timer = setTimeout(end, ms)
        signal.addEventListener('abort', end, { once: true })
        mine.add(end)
      }),
  }
}
