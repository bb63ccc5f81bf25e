import type { EventRow } from './read-events.ts'

const sentences = {
  'run.queued': () => 'The run is queued.',
  'run.admitted': () => 'The run has its place in its group.',
  'run.cancelling': ({ text }) => `The run is being cancelled: ${text('reason')}.`,
  'run.retrying': () => 'The run goes on with what had not succeeded.',
  'run.succeeded': () => 'The run succeeded.',
  'run.failed': () => 'The run failed.',
  'run.cancelled': () => 'The run was cancelled.',
  'run.timed_out': () => 'The run took longer than its time limit.',
  'step.ready': ({ step }) => `${step} is ready.`,
  'step.started': ({ step, text }) => `${step} started, try ${text('attempt')}.`,
  'step.progress': ({ step, data }) => `${step}: ${progressText(data)}`,
  'step.log': ({ step, text }) => `${step}: ${text('message')}`,
  'step.waiting': ({ step }) => `${step} waits for the run that it started.`,
  'step.retrying': ({ step, text }) => `${step} will be tried again: ${text('message')}`,
  'step.released': ({ step }) => `${step} was given back and will start anew.`,
  'step.succeeded': ({ step }) => `${step} succeeded.`,
  'step.failed': ({ step, text }) => `${step} failed: ${text('message')}`,
  'step.skipped': ({ step }) => `${step} was skipped.`,
  'step.cancelled': ({ step }) => `${step} was cancelled.`,
  'step.discarded': ({ step }) => `${step} stays failed: its failure was set aside.`,
} satisfies Record<string, (event: Told) => string>

type Told = { step: string; data: Record<string, unknown>; text: (name: string) => string }

/** What can happen in a run. */
export const eventTypes: readonly string[] = Object.keys(sentences)

/** An event in one sentence, for people. */
export function eventMessage({ type, stepKey, data }: EventRow): string {
  const told = { step: `Step ${stepKey ?? ''}`, data: data ?? {}, text: (name: string) => String(data?.[name] ?? '') }
  return isEventType(type) ? sentences[type](told) : type
}

const isEventType = (type: string): type is keyof typeof sentences => Object.hasOwn(sentences, type)

function progressText(data: Record<string, unknown>): string {
  const of = typeof data['total'] === 'number' ? ` of ${data['total']}` : ''
  const note = typeof data['note'] === 'string' ? `, ${data['note']}` : ''
  return `${String(data['done'] ?? 0)}${of} ${String(data['unit'] ?? '')}${note}`.trim()
}
