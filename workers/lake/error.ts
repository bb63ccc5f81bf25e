import { AppError } from '../../shared/errors.ts'

/**
 * An engine error as one of ours. Full disk, used-up memory, a cipher that is missing, an interrupt and a lost race of two writers have codes of
 * their own; the rest is a fault of our SQL and becomes INTERNAL, its text in the cause only.
 */
export function lakeError(error: unknown): AppError {
  if (error instanceof AppError) return error
  return resourceError(error) ?? new AppError('INTERNAL', 'The table engine failed.', { cause: error })
}

/** An engine error that says nothing about the SQL itself: disk, memory, encryption, interrupt, race. Undefined for all others. */
export function resourceError(error: unknown): AppError | undefined {
  const text = error instanceof Error ? error.message : String(error)
  if (/max_temp_directory_size|No space left|Disk quota|File too large|failed to offload data block/i.test(text))
    return new AppError('DISK_FULL', "The space of the tenant's plan is used up.", { cause: error })
  if (/out of memory|could not allocate|bad_alloc/i.test(text))
    return new AppError('MEMORY_EXCEEDED', "The step needs more memory than the tenant's plan gives.", { cause: error })
  if (/crypto module/i.test(text))
    return new AppError('CONFIG_INVALID', 'These tables are encrypted, and this worker cannot write such.', {
      hint: 'Set LAKE_EXTENSIONS, so that DuckDB finds its extension httpfs.',
      cause: error,
    })
  if (/INTERRUPT/i.test(text)) return new AppError('CANCELLED', 'The work was cancelled.', { cause: error })
  // Only tables of ours have primary keys: two writers at once alone give the same one.
  if (
    /TransactionContext Error[^]*[Cc]onflict|[Cc]onflict on (update|tuple)|write-write conflict|Duplicate key .* violates primary key|Failed to commit: PRIMARY KEY/.test(
      text,
    )
  )
    return new AppError('CONFLICT', 'Another step wrote the same table at the same time.', {
      retry: 'later',
      cause: error,
    })
  return undefined
}

/**
 * An engine message that a tenant may read and the metadata may keep: one paragraph, no path of the machine, no value of
 * a row, no more than 600 characters.
 */
export function scrubbed(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  const line = text
    .replace(/^Failed to \w+ statements?: /, '')
    .replace(/(^|[\s"'(=[,])\/(?:[^\s"'(),\]]*)/g, '$1<path>')
    .replace(/\s+/g, ' ')
    .trim()
  return withoutValues(line).slice(0, 600)
}

// Errors of these kinds come from what a statement read and quote it. What is kept stands behind the value, where no value
// can stand any more, or has a form that the engine gives: a type, a column, a place, and the statement itself.
function withoutValues(text: string): string {
  const kind = /^(?:Conversion|Invalid Input|Out of Range|Constraint|Invalid) Error/.exec(text)?.[0]
  if (kind === undefined) return text
  const json = /^Invalid Input Error: Malformed JSON in file "<path>", at \w+ \d+ in [\w/]+ \d+: [a-z ]+/.exec(
    text,
  )?.[0]
  if (json !== undefined) return json
  const at = text.lastIndexOf(' LINE ')
  const head = at === -1 ? text : text.slice(0, at)
  const place = /^ LINE \d+: /.test(text.slice(at)) ? ` ${text.slice(at + 1)}` : ''
  const type = / to ([A-Z]\w*(?:\(\d+(?:, ?\d+)?\))?)(?: when casting from source column [^'"]+)?$/.exec(head)?.[1]
  const column = / when casting from source column ([^'"]+)$/.exec(head)?.[1]
  const row = /^[\w ]+: CSV Error on Line: (\d+)/.exec(text)?.[1]
  return [
    `${kind}: a value does not fit`,
    type === undefined ? '' : ` the type ${type}`,
    column === undefined ? '' : `, in column ${column}`,
    row === undefined ? '' : `, on line ${row}`,
    `.${place}`,
  ].join('')
}
