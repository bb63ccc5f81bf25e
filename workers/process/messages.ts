import type { DataRead, DataRow } from '../../shared/datasets/reader.ts'
import type { ErrorData } from '../../shared/errors.ts'
import type { Store } from '../lake/attach.ts'
import type { OutputValue, ProcessLimits, Progress, StepResult } from '../define.ts'

/** What a tenant's process is told once, when a warm process becomes that tenant's. Sent over IPC, never in an environment. */
export type Binding = {
  tenant: { id: string; companyName: string; adminEmail: string }
  /** Where its lake is, with the logins and the key that open it: secrets, all of it. */
  store: Store
  filesRoot: string
  workRoot: string
  limits: ProcessLimits
  allowPrivateNetwork: boolean
}

/** One attempt of a step. `values` are the variables for SQL fields; every other setting is resolved already. */
export type Job = {
  id: string
  psType: string
  run: { id: string; pipelineId: string; trigger: string; actor: string }
  step: { key: string; attempt: number; cycle: number; fence: bigint }
  settings: Record<string, unknown>
  values: Record<string, OutputValue>
  /** The opened credential, or null when the step names none. It lives in this message and in the processor's hands. */
  secret: unknown
}

/** Parent to child. */
export type ToChild =
  | { kind: 'bind'; binding: Binding }
  | { kind: 'run'; job: Job }
  | { kind: 'abort'; jobId: string }
  | { kind: 'read'; readId: string; read: DataRead }
  | { kind: 'stop_read'; readId: string }
  | { kind: 'close' }

/** Child to parent. */
export type FromChild =
  | { kind: 'ready' }
  | { kind: 'bound' }
  | { kind: 'bind_failed'; error: ErrorData }
  | { kind: 'progress'; jobId: string; progress: Progress }
  | { kind: 'log'; jobId: string; level: 'info' | 'warn' | 'error'; message: string }
  | { kind: 'done'; jobId: string; result: StepResult }
  | { kind: 'failed'; jobId: string; error: ErrorData }
  | { kind: 'rows'; readId: string; rows: DataRow[] }
  | { kind: 'unread'; readId: string; error: ErrorData }
