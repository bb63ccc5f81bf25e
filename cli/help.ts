import { type Operation, operations } from '../schema/operations/index.ts'

/** What the command takes, and every operation with its first sentence. */
export const usage = `npm run tributary -- <operation> [--json <variables>] [--once <key>] [--watch]

  --json   variables as JSON; @file or - (standard input) for where they stand
  --once   idempotency key: the same key with the same input does nothing again, for 24 hours
  --watch  follow the run that was started to its end; the exit code is that of the run
  --help   of an operation: what it takes and answers

Environment: TRIBUTARY_URL (default http://127.0.0.1:8080), TRIBUTARY_KEY (an API key).
Exit codes: 0 done, 1 refused or not succeeded, 2 not usable.

Operations:
${Object.entries(operations)
  .map(([name, operation]) => `  ${name.padEnd(20)}${summaryOf(operation)}`)
  .join('\n')}`

/** What one operation takes and answers, and how to call it. */
export function helpOf(name: string, { text, kind }: Operation<unknown, never>): string {
  const wanted = [...(/\(([^)]*)\)/.exec(text)?.[1] ?? '').matchAll(/\$(\w+): (\S+!)/g)].map(
    ([, field]) => `"${field}": …`,
  )
  return `npm run tributary -- ${name}${wanted.length > 0 ? ` --json '{${wanted.join(', ')}}'` : ''}

${text.trim()}

The fields of each input stand in schema/schema.graphql.${kind === 'subscription' ? ' Each event is one line; a stream that breaks goes on after the last.' : ''}`
}

/** The operation that was probably meant, as a sentence; empty when none is near. */
export function nearest(name: string): string {
  const near = Object.keys(operations)
    .map((known) => ({ known, distance: distance(name, known) }))
    .toSorted((one, other) => one.distance - other.distance)[0]
  return near && near.distance <= Math.max(2, name.length / 3) ? ` Did you mean ${near.known}?` : ''
}

function summaryOf({ text }: Operation<unknown, never>): string {
  return /^# (.*)$/m.exec(text)?.[1] ?? ''
}

// Levenshtein's, row by row.
function distance(one: string, other: string): number {
  let above = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...one].entries()) {
    const row = [index + 1]
    for (const [at, wanted] of [...other].entries())
      row.push(Math.min((above[at + 1] ?? 0) + 1, (row[at] ?? 0) + 1, (above[at] ?? 0) + (letter === wanted ? 0 : 1)))
    above = row
  }
  return above.at(-1) ?? 0
}
