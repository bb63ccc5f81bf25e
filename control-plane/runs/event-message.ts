import type { EventRow } from './read-events.ts'

/** An event in one sentence, for people. */
export function eventMessage({ type, stepKey, data }: EventRow): string {
  const step = `Step ${stepKey ?? ''}`
  const text = (name: string): string => String(data?.[name] ?? '')
  const sentences: Record<string, () => string> = {
    'run.queued': () => 'The run is queued.',
    'run.cancelling': () => `The run is being cancelled: ${text('reason')}.`,
    'run.retrying': () => 'The run goes on with what had not succeeded.',
    'run.succeeded': () => 'The run succeeded.',
    'run.failed': () => 'The run failed.',
    'run.cancelled': () => 'The run was cancelled.',
    'run.timed_out': () => 'The run took longer than its time limit.',
    'step.ready': () => `${step} is ready.`,
    'step.started': () => `${step} started, try ${text('attempt')}.`,
    'step.progress': () => `${step}: ${progressText(data ?? {})}`,
    'step.log': () => `${step}: ${text('message')}`,
    'step.retrying': () => `${step} will be tried again: ${text('message')}`,
    'step.released': () => `${step} was given back and will start anew.`,
    'step.succeeded': () => `${step} succeeded.`,
    'step.failed': () => `${step} failed: ${text('message')}`,
    'step.skipped': () => `${step} was skipped.`,
    'step.cancelled': () => `${step} was cancelled.`,
  }
  return sentences[type]?.() ?? type
}

function progressText(data: Record<string, unknown>): string {
  const of = typeof data['total'] === 'number' ? ` of ${data['total']}` : ''
  const note = typeof data['note'] === 'string' ? `, ${data['note']}` : ''
  return `${String(data['done'] ?? 0)}${of} ${String(data['unit'] ?? '')}${note}`.trim()
}
