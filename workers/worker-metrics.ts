import type { Metric } from './health/metrics.ts'
import type { WorkerFigures } from './worker.ts'

/** A worker's own figures as metrics. */
export function workerMetrics(figures: WorkerFigures, isListening: boolean): Metric[] {
  const metric = (name: string, type: Metric['type'], help: string, value: number): Metric => ({
    name: `worker_${name}`,
    help,
    type,
    values: { '': value },
  })
  return [
    metric('capacity', 'gauge', 'Steps that it runs at once at most.', figures.capacity),
    metric('running', 'gauge', 'Steps that it runs.', figures.running),
    metric('draining', 'gauge', '1 when it claims nothing more.', figures.draining ? 1 : 0),
    metric('listening', 'gauge', '1 while it hears wake-ups; it looks once a second anyway.', isListening ? 1 : 0),
    metric('claims_total', 'counter', 'Steps that it took.', figures.claims),
    metric(
      'heartbeats_failed_total',
      'counter',
      'Heartbeats that the database did not take.',
      figures.heartbeatsFailed,
    ),
  ]
}

/** How many wake-ups came in from QStash. */
export const wakeMetrics = (figures: { taken: number; refused: number }): Metric[] => [
  {
    name: 'wakes_total',
    help: 'Wake-ups from QStash, by whether they were taken; refused are those that are not its own.',
    type: 'counter',
    label: 'outcome',
    values: figures,
  },
]
