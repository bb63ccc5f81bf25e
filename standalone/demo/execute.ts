import { z } from 'zod'
import type { Client } from '../client.ts'
import { progressPrinter, type RunSummary } from './print.ts'

const userError = z.object({ code: z.string(), message: z.string(), hint: z.string().nullish() })
const started = z.object({
  result: z.object({ run: z.object({ id: z.string() }).nullable(), errors: z.array(userError) }),
})
const eventShape = z.object({
  runEvents: z.object({
    seq: z.number(),
    type: z.string(),
    stepKey: z.string().nullable(),
    message: z.string(),
    data: z.unknown(),
  }),
})
const deliveredFile = z.object({ remote_path: z.string(), bytes: z.number(), sha256: z.string() })
const finished = z.object({
  run: z.object({
    state: z.string(),
    durationMs: z.coerce.number().nullable(),
    steps: z.array(
      z.object({
        key: z.string(),
        type: z.string(),
        state: z.string(),
        outputs: z.record(z.string(), z.unknown()).nullable(),
        error: z.object({ code: z.string(), message: z.string(), hint: z.string().nullish() }).nullable(),
      }),
    ),
  }),
})

/** What to run. The idempotency key is made of it: the same run is started once, whoever asks again. */
export type DemoRun = { pipeline: string; date: string }

/** Starts a pipeline (or finds the run that was started before), shows its progress to the end, and reads its outcome. */
export async function executeRun(client: Client, run: DemoRun): Promise<RunSummary> {
  const input = { pipeline: run.pipeline, date: run.date, idempotencyKey: `demo:${run.pipeline}:${run.date}` }
  const answer = started.parse(
    await client.request(
      'mutation ($input: RunPipelineInput!) { result: runPipeline(input: $input) { run { id } errors { code message hint } } }',
      { input },
    ),
  ).result
  if (!answer.run) throw new Error(answer.errors.map((error) => `${error.code}: ${error.message}`).join('\n'))
  await watch(client, answer.run.id)
  return summaryOf(await client.request(runQuery, { id: answer.run.id }), `${run.pipeline} ${run.date}`)
}

const runQuery =
  'query ($id: ID!) { run(id: $id) { state durationMs steps { key type state outputs error { code message hint } } } }'
const watchQuery =
  'subscription ($runId: ID!, $after: Int) { runEvents(runId: $runId, after: $after) { seq type stepKey message data } }'

// A stream may end before its run does: the server bounds its life, and the client goes on after the last event.
async function watch(client: Client, runId: string): Promise<void> {
  const printer = progressPrinter(process.stdout, () => performance.now())
  let after = 0
  for (;;) {
    for await (const data of client.subscribe(watchQuery, { runId, after })) {
      const { runEvents: event } = eventShape.parse(data)
      after = event.seq
      printer.event(event)
      if (/^run\.(succeeded|failed|cancelled|timed_out)$/.test(event.type)) return
    }
  }
}

function summaryOf(data: Record<string, unknown>, title: string): RunSummary {
  const { run } = finished.parse(data)
  const files = run.steps
    .filter((step) => step.type === 'transfer.sftp_upload')
    .flatMap((step) =>
      z
        .array(deliveredFile)
        .catch([])
        .parse(step.outputs?.['files'] ?? []),
    )
  return {
    title,
    state: run.state,
    seconds: (run.durationMs ?? 0) / 1000,
    steps: run.steps.map((step) => ({
      key: step.key,
      state: step.state,
      outputs: step.outputs ?? {},
      error: step.error ? `${step.error.code}: ${step.error.message} ${step.error.hint ?? ''}`.trim() : null,
    })),
    files: files.map((file) => ({ remotePath: file.remote_path, bytes: file.bytes, sha256: file.sha256 })),
  }
}
