/**
 * One class, one closed list. A code says who must act and whether trying again can help.
 * `message` is safe to show to a tenant; `context` and `cause` go to the log only.
 */
export const errorCodes = {
  // Who you are, what you may do
  UNAUTHENTICATED: {
    status: 401,
    retry: 'never',
    hint: 'Send a valid API key or access token: Authorization: Bearer <key or token>.',
  },
  RATE_LIMITED: { status: 429, retry: 'later', hint: 'Wait as long as it says, then try again.' },
  FORBIDDEN: { status: 403, retry: 'never', hint: 'Use a key with the scope that this field needs.' },
  NOT_FOUND: { status: 404, retry: 'never', hint: 'Check the id; it must belong to the tenant of your key.' },
  // The request
  BAD_INPUT: { status: 400, retry: 'never', hint: 'Correct the named field.' },
  BAD_CURSOR: { status: 400, retry: 'never', hint: 'Start the list again without a cursor.' },
  ALREADY_EXISTS: { status: 409, retry: 'never', hint: 'Choose another name, or change the existing one.' },
  IDEMPOTENCY_KEY_REUSED: { status: 409, retry: 'never', hint: 'Use a new idempotency key for a different request.' },
  CONFLICT: { status: 409, retry: 'never', hint: 'Read the current state and decide again.' },
  TOO_LARGE: { status: 413, retry: 'never', hint: 'Send less at once.' },
  TENANT_NOT_ACTIVE: { status: 409, retry: 'never', hint: 'Finish onboarding or resume the tenant first.' },
  QUOTA_EXCEEDED: { status: 429, retry: 'later', hint: 'Wait for running work to end, or raise the plan.' },
  FEATURE_OFF: { status: 403, retry: 'never', hint: 'See the features of the tenant, and who switches each on.' },
  // Pipeline configuration
  CONFIG_INVALID: { status: 422, retry: 'never', hint: 'Correct the pipeline file at the named place.' },
  VARIABLE_UNKNOWN: { status: 422, retry: 'never', hint: 'Define it under variables, or pass it as a parameter.' },
  PARAMETER_INVALID: { status: 422, retry: 'never', hint: 'Pass a value of the declared type.' },
  SQL_INTERPOLATION: {
    status: 422,
    retry: 'never',
    hint: "Put the placeholder alone in quotes ('{date}') for a value, or in the place of a table or column name.",
  },
  SQL_INVALID: { status: 422, retry: 'never', hint: 'Correct the SQL of this step.' },
  SQL_NOT_ALLOWED: { status: 422, retry: 'never', hint: 'Write one SELECT statement.' },
  // Credentials and the other end
  CREDENTIAL_MISSING: { status: 422, retry: 'never', hint: 'Create a credential with this name: createCredential.' },
  CREDENTIAL_INVALID: { status: 422, retry: 'never', hint: 'Correct the named field of the credential.' },
  CREDENTIAL_REJECTED: { status: 422, retry: 'never', hint: 'The other end refused it: update user, password or key.' },
  SECRET_UNREADABLE: { status: 500, retry: 'never', hint: 'The platform key does not open this secret.' },
  EGRESS_DENIED: { status: 422, retry: 'never', hint: 'The deployment does not allow connections to this address.' },
  HOST_KEY_MISSING: { status: 422, retry: 'never', hint: 'Pin the server: set hostKey to its SHA256 fingerprint.' },
  HOST_KEY_CHANGED: {
    status: 422,
    retry: 'never',
    hint: 'Check with the owner of the server before pinning the new key.',
  },
  CONNECTION_FAILED: { status: 502, retry: 'later', hint: 'Check address, port and network of the other end.' },
  SOURCE_FAILED: { status: 502, retry: 'later', hint: 'The source refused or broke the read; see the message.' },
  DELIVERY_FAILED: {
    status: 502,
    retry: 'later',
    hint: 'Nothing stands under the final name; the step can be retried.',
  },
  REMOTE_FULL: { status: 507, retry: 'later', hint: 'Free space on the receiving server, then retry the step.' },
  VERIFY_FAILED: {
    status: 502,
    retry: 'later',
    hint: 'The server holds other bytes than were sent; retry, then ask its owner.',
  },
  // Data
  FILE_MISSING: { status: 422, retry: 'never', hint: 'Put the file there, or correct the path.' },
  FILE_INVALID: { status: 422, retry: 'never', hint: 'Correct the file or the format options of the source.' },
  PATH_INVALID: { status: 422, retry: 'never', hint: 'Use a relative path inside the tenant folder.' },
  TABLE_MISSING: { status: 422, retry: 'never', hint: 'Load the table first, or correct its name.' },
  SCHEMA_MISMATCH: { status: 422, retry: 'never', hint: 'Align the source with the table, or load into a new table.' },
  KEY_INVALID: { status: 422, retry: 'never', hint: 'Name columns of the source as business_key.' },
  QUALITY_BLOCKED: { status: 422, retry: 'never', hint: 'See the quarantine table; correct the data and retry.' },
  DISK_FULL: { status: 507, retry: 'later', hint: 'Free space for the tenant, then retry the step.' },
  MEMORY_EXCEEDED: { status: 507, retry: 'never', hint: 'Make the step smaller or raise the memory of the plan.' },
  // Running
  TIMED_OUT: { status: 504, retry: 'later', hint: 'Raise the timeout of the step, or make it smaller.' },
  LEASE_EXPIRED: { status: 503, retry: 'later', hint: 'The worker stopped answering; the step runs again by itself.' },
  PROCESS_DIED: { status: 500, retry: 'later', hint: "The tenant's process ended unexpectedly; see the step's log." },
  CANCELLED: { status: 499, retry: 'never', hint: 'The run was cancelled.' },
  MAIL_FAILED: { status: 502, retry: 'later', hint: 'Check the mail server settings.' },
  UNAVAILABLE: { status: 503, retry: 'later', hint: 'Try again in a moment.' },
  INTERNAL: { status: 500, retry: 'later', hint: 'Report the request id.' },
} as const satisfies Record<string, { status: number; retry: 'never' | 'later'; hint: string }>

/** A code of the closed list. */
export type ErrorCode = keyof typeof errorCodes
/** True for a code of the list. */
export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errorCodes, code)

/** Where in a file or a document a problem stands; lines and columns count from 1. */
export type Place = { file?: string; line?: number; column?: number; path?: string }

/** Figures of a refusal, for programs: the quota that is used up, the version that a change was not made for, how long to wait. */
export type RefusalFigures = {
  quota?: { name: string; limit: number; used: number; resetsAt: string | null }
  version?: { expected: number; current: number }
  retryAfterSeconds?: number
}

/** What the log may know and a tenant may not, and `figures`, which it may. */
type Options = {
  context?: Record<string, unknown>
  cause?: unknown
  place?: Place
  hint?: string
  retry?: 'never' | 'later'
  figures?: RefusalFigures
}

/** The only error class of the product. `retry` and `hint` default to those of the code. */
export class AppError extends Error {
  override readonly name = 'AppError'
  readonly code: ErrorCode
  readonly hint: string
  readonly retry: 'never' | 'later'
  readonly place: Place | undefined
  readonly context: Record<string, unknown>
  readonly figures: RefusalFigures

  /** `message` must be safe for a tenant: no secret, no path outside the tenant's folder, no other tenant. */
  constructor(code: ErrorCode, message: string, options: Options = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = options.hint ?? errorCodes[code].hint
    this.retry = options.retry ?? errorCodes[code].retry
    this.place = options.place
    this.context = options.context ?? {}
    this.figures = options.figures ?? {}
  }

  /** HTTP status of the code. */
  get status(): number {
    return errorCodes[this.code].status
  }
}

/** The form of an error in the ledger, over IPC and in run events: plain data, safe for the tenant. */
export type ErrorData = { code: ErrorCode; message: string; hint: string; retry: 'never' | 'later'; place?: Place }

/** Any thrown value as data. What is not an AppError becomes INTERNAL without its text, which may hold anything. */
export function errorData(error: unknown): ErrorData {
  const known =
    error instanceof AppError
      ? error
      : new AppError('INTERNAL', 'An unexpected error ended this work.', { cause: error })
  return {
    code: known.code,
    message: known.message,
    hint: known.hint,
    retry: known.retry,
    ...(known.place ? { place: known.place } : {}),
  }
}

/** The error that `errorData` described, with the same code, message, hint, retry and place. */
export function errorFromData(data: ErrorData): AppError {
  return new AppError(data.code, data.message, {
    hint: data.hint,
    retry: data.retry,
    ...(data.place ? { place: data.place } : {}),
  })
}
