/** Rejects after `ms` or when `signal` aborts, if `work` has not ended by then; what it comes to later is heard by nobody. `whose` names the other end. */
export async function within<T>(work: Promise<T>, ms: number, whose: string, signal?: AbortSignal): Promise<T> {
  // Whoever loses the race may still fail.
  work.catch(() => undefined)
  let timer: ReturnType<typeof setTimeout> | undefined
  let giveUp = (): void => undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer of ${whose} within ${ms} ms`)), ms)
    giveUp = () => reject(new Error(`nobody waits for the answer of ${whose} any more`))
    if (signal?.aborted) giveUp()
    signal?.addEventListener('abort', giveUp, { once: true })
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', giveUp)
  }
}
