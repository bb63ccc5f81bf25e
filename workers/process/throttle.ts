/** Passes on at most one value per `everyMs`, always the newest; `flush` passes on a waiting one at once. */
export function throttle<T>(everyMs: number, pass: (value: T) => void): { push(value: T): void; flush(): void } {
  let lastAt = Number.NEGATIVE_INFINITY
  let waiting: { value: T } | undefined
  let timer: NodeJS.Timeout | undefined

  const flush = (): void => {
    clearTimeout(timer)
    timer = undefined
    if (!waiting) return
    const { value } = waiting
    waiting = undefined
    lastAt = performance.now()
    pass(value)
  }
  return {
    push(value) {
      waiting = { value }
      const left = everyMs - (performance.now() - lastAt)
      if (left <= 0) flush()
      else timer ??= setTimeout(flush, left)
    },
    flush,
  }
}
