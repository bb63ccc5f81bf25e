import type { Connection } from './connection.ts'
import { upsert } from './upsert.ts'

/** One attempt of a step, as it ended. `endedAt` minus `startedAt` is its time in the tenant's process; both ISO 8601. */
export type StepLog = {
  runId: string
  pipelineId: string
  trigger: string
  actor: string
  stepKey: string
  psType: string
  cycle: number
  attempt: number
  fence: bigint
  status: 'SUCCEEDED' | 'FAILED'
  errorCode: string | null
  errorMessage: string | null
  outputs: object | null
  startedAt: string
  endedAt: string
}

/** Writes how an attempt ended into `x_meta_step_logs`; said twice it stands there once. */
export async function writeStepLog(connection: Connection, log: StepLog): Promise<void> {
  // It only adds rows, so it waits for nobody's turn.
  await upsert(
    connection,
    'x_meta_step_logs',
    ['run_id', 'step_key', 'fence'],
    {
      run_id: '$1',
      step_key: '$2',
      pipeline_id: '$3',
      trigger: '$4',
      requested_by: '$5',
      ps_type: '$6',
      cycle: '$7::INTEGER',
      attempt: '$8::INTEGER',
      fence: '$9::UBIGINT',
      status: '$10',
      error_code: '$11::VARCHAR',
      error_message: '$12::VARCHAR',
      outputs: '$13::JSON',
      started_at: '$14::TIMESTAMPTZ',
      ended_at: '$15::TIMESTAMPTZ',
    },
    [
      log.runId,
      log.stepKey,
      log.pipelineId,
      log.trigger,
      log.actor,
      log.psType,
      log.cycle,
      log.attempt,
      String(log.fence),
      log.status,
      log.errorCode,
      log.errorMessage,
      log.outputs === null ? null : JSON.stringify(log.outputs),
      log.startedAt,
      log.endedAt,
    ],
    'keep',
  )
}
