import { AppError } from '../shared/errors.ts'

/** The error of work that its signal ended: the signal's own reason when that is an AppError (TIMED_OUT), else CANCELLED. */
export function abortedError(signal: AbortSignal): AppError {
  const reason: unknown = signal.reason
  return reason instanceof AppError ? reason : new AppError('CANCELLED', 'The work was cancelled.')
}

/** Throws `abortedError` when the signal has aborted. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw abortedError(signal)
}

/**
 * The promise's own end, or `abortedError` as soon as the signal aborts. The work behind the promise goes on unless it
 * watches the signal itself; a rejection that comes too late is dropped.
 */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {})
    throw abortedError(signal)
  }
  let end = (): void => {}
  const aborted = new Promise<never>((_, reject) => {
    end = () => reject(abortedError(signal))
    signal.addEventListener('abort', end, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', end)
  }
}
