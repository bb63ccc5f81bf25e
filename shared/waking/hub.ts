/** What may have changed: a run, or without `runId` something of the tenant that belongs to no run. */
export type Topic = { tenantId: string; runId?: string }

/**
 * Live progress: says "look" to those who watch a run, or a tenant. Lossy by contract; watchers read the rows after their
 * cursor and look again every few seconds without a hint.
 */
export type Hub = {
  notify(topic: Topic): void
  /**
   * Resolves at the next hint for this run, without `runId` at the next of the tenant, those of its runs among them; after
   * `ms`, or when `signal` aborts; whichever is first. Never rejects.
   */
  wait(topic: Topic, ms: number, signal: AbortSignal): Promise<void>
}

/** The hub of a single process. `notifyAll` is for a moment after which nobody knows what was missed. */
export function inProcessHub(): Hub & { notifyAll(): void } {
  const waiting = new Map<string, Set<() => void>>()
  const keyOf = ({ tenantId, runId = '' }: Topic): string => `${tenantId}\n${runId}`
  return {
    notify(topic) {
      for (const key of new Set([keyOf(topic), keyOf({ tenantId: topic.tenantId })]))
        for (const end of waiting.get(key) ?? []) end()
    },
    notifyAll() {
      for (const ends of waiting.values()) for (const end of ends) end()
    },
    wait: (topic, ms, signal) =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve()
        const key = keyOf(topic)
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
