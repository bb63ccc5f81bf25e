import { AppError } from '../../shared/errors.ts'

/**
 * An engine error as one of ours. Full disk, used-up memory, an interrupt and a lost race of two writers have codes of
 * their own; the rest is a fault of our SQL and becomes INTERNAL, its text in the cause only.
 */
export function lakeError(error: unknown): AppError {
  if (error instanceof AppError) return error
  return resourceError(error) ?? new AppError('INTERNAL', 'The table engine failed.', { cause: error })
}

/** An engine error that says nothing about the SQL itself: disk, memory, interrupt, race. Undefined for all others. */
export function resourceError(error: unknown): AppError | undefined {
  const text = error instanceof Error ? error.message : String(error)
  if (/max_temp_directory_size|No space left|Disk quota|failed to offload data block/i.test(text))
    return new AppError('DISK_FULL', "The space of the tenant's plan is used up.", { cause: error })
  if (/out of memory|could not allocate|bad_alloc/i.test(text))
    return new AppError('MEMORY_EXCEEDED', "The step needs more memory than the tenant's plan gives.", { cause: error })
  if (/INTERRUPT/i.test(text)) return new AppError('CANCELLED', 'The work was cancelled.', { cause: error })
  if (/TransactionContext Error.*[Cc]onflict|[Cc]onflict on (update|tuple)|write-write conflict/.test(text))
    return new AppError('CONFLICT', 'Another step wrote the same table at the same time.', {
      retry: 'later',
      cause: error,
    })
  return undefined
}

/** An engine message that a tenant may read: one paragraph, no path of the machine, no more than 600 characters. */
export function scrubbed(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text
    .replace(/^Failed to \w+ statements?: /, '')
    .replace(/(^|[\s"'(=[,])\/(?:[^\s"'(),\]]*)/g, '$1<path>')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, 600)
}
