import { styleText } from 'node:util'
import { z } from 'zod'

const progressShape = z.object({
  done: z.number(),
  total: z.number().nullable(),
  unit: z.string(),
  note: z.string().optional(),
})
const retryShape = z.object({ code: z.string(), message: z.string() })

/** An event of a run as the subscription gives it. */
export type RunEvent = { seq: number; type: string; stepKey: string | null; data: unknown }

/** A finished run: what the summary table shows. */
export type RunSummary = {
  title: string
  state: string
  seconds: number
  steps: {
    key: string
    state: string
    outputs: Record<string, unknown>
    error: string | null
  }[]
  files: { remotePath: string; bytes: number; sha256: string }[]
}

/**
 * One line per step: rewritten in place on a terminal, else at most one line every two seconds and one at the end.
 * A percentage only where the total is known.
 */
export function progressPrinter(out: NodeJS.WriteStream, now: () => number): { event(event: RunEvent): void } {
  const started = new Map<string, number>()
  let open = false
  let shownAt = 0

  const line = (text: string, last: boolean): void => {
    if (out.isTTY) out.write(`\r\x1b[K${text}${last ? '\n' : ''}`)
    else if (last || now() - shownAt > 2_000) out.write(`${text}\n`)
    else return
    shownAt = now()
    open = !last
  }
  return {
    event({ type, stepKey, data }) {
      if (stepKey === null) return
      const name = `  ${stepKey.padEnd(16)}`
      if (type === 'step.started') {
        started.set(stepKey, now())
        shownAt = now()
        if (out.isTTY) line(`${name} started`, false)
      } else if (type === 'step.progress') {
        const progress = progressShape.safeParse(data)
        if (progress.success)
          line(`${name} ${progressText(progress.data, (now() - (started.get(stepKey) ?? now())) / 1000)}`, false)
      } else if (type === 'step.retrying') {
        const retry = retryShape.safeParse(data)
        if (retry.success) line(`${name} will be tried again: ${retry.data.code}: ${retry.data.message}`, true)
      } else if (/^step\.(succeeded|failed|cancelled)$/.test(type)) {
        const seconds = (now() - (started.get(stepKey) ?? now())) / 1000
        const mark = type === 'step.succeeded' ? styleText('green', '✔') : styleText('red', type.slice(5))
        line(`${name} ${mark} ${seconds.toFixed(1)} s`, true)
      } else if (open && type === 'step.log' && !out.isTTY) {
        open = false
      }
    },
  }
}

/** `45 %  1,890,000 of 4,200,000 rows  512,000 rows/s`, or `1,890,000 rows of unknown  …` where nobody can know the total. */
export function progressText(progress: z.output<typeof progressShape>, seconds: number): string {
  const { done, total, unit, note } = progress
  const amount = unit === 'bytes' ? megabytes : count
  const share =
    total === null ? '  – %' : `${String(total === 0 ? 100 : Math.floor((100 * done) / total)).padStart(3)} %`
  const of =
    total === null
      ? `${amount(done)} ${unit === 'bytes' ? '' : `${unit} `}of unknown`
      : `${amount(done)} of ${amount(total)}${unit === 'bytes' ? '' : ` ${unit}`}`
  const rate = seconds > 0.2 ? `  ${amount(done / seconds)}${unit === 'bytes' ? '' : ` ${unit}`}/s` : ''
  return `${share}  ${of}${rate}${note ? `  ${note}` : ''}`
}

/** The table of a finished run. */
export function printSummary(run: RunSummary, write: (line: string) => void = console.log): void {
  const all = run.steps.map((step) => step.outputs)
  const first = (name: string): unknown => all.find((outputs) => outputs[name] !== undefined)?.[name]
  const versions = (['inserted', 'updated', 'deleted', 'unchanged'] as const).filter(
    (name) => first(name) !== undefined,
  )
  const rows: [string, string][] = [
    ['rows in', shown(first('rows_in'))],
    ['rejected', shown(first('rejected'))],
    ...(versions.length > 0
      ? ([[versions.join(' / '), versions.map((name) => shown(first(name))).join(' / ')]] as [string, string][])
      : []),
    [
      'score of load, of check',
      `${shown(first('score'))}, ${shown(run.steps.find((step) => step.key === 'check')?.outputs['score'])}`,
    ],
    ['seconds', run.seconds.toFixed(1)],
    ...run.files.flatMap((file): [string, string][] => [
      ['delivered', `${file.remotePath}  ${count(file.bytes)} bytes`],
      ['SHA-256 read back', file.sha256],
    ]),
    ...run.steps.flatMap((step): [string, string][] => (step.error ? [[`failed: ${step.key}`, step.error]] : [])),
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  write(`\n  ${styleText('bold', run.title)}  ${run.state}`)
  for (const [name, value] of rows) write(`    ${name.padEnd(width)}  ${value}`)
  write('')
}

/** Three commands that work as printed, and where to look. */
export function printNext(to: { url: string; token: string; dataDir: string }): void {
  const call = (body: object): string =>
    `curl -s ${to.url}/graphql -H 'authorization: Bearer ${to.token}' -H 'content-type: application/json' -d '${JSON.stringify(body)}'`
  console.log(`\n${styleText('bold', 'What to try next')}`)
  console.log(
    `\n# the last runs\n${call({ query: '{ runs(first: 5) { nodes { id state pipeline { path } steps { key state } } } }' })}`,
  )
  console.log(
    `\n# load day 2 once more: nothing has changed, so nothing is written\n${call({
      query:
        'mutation { runPipeline(input: {pipeline: "demo/places/daily", parameters: {date: "2026-01-02"}}) { run { id state } errors { code message hint } } }',
    })}`,
  )
  console.log(`\n# who did what\n${call({ query: '{ auditLog(first: 10) { nodes { at actor action target } } }' })}`)
  console.log(`\nGraphiQL: ${to.url}/graphql   files as delivered: ${to.dataDir}/partners`)
}

const shown = (value: unknown): string =>
  typeof value === 'number' ? count(value) : value === undefined || value === null ? '–' : String(value)
const count = (value: number): string =>
  (Number.isInteger(value) ? value : value < 10 ? Number(value.toFixed(4)) : Math.round(value)).toLocaleString('en-US')
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`
