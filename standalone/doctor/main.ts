import { parseArgs, styleText } from 'node:util'
import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { describeError } from '../../shared/log.ts'
import { type Diagnosis, diagnose } from './diagnose.ts'
import { openHouse, type Part, partOf, parts } from './house.ts'

const help = `Looks at a deployment and says what is wrong and what to do. Changes nothing, prints no secret.

  npm run doctor
  npm run --silent doctor -- --json
  npm run doctor -- --for <part>

  --for <part>   ${parts.join(', ')}. Default: embedded without DATABASE_URL, edge with
                 UPSTASH_REDIS_REST_URL, self-host otherwise
  --json         findings as JSON: { ok, part, findings: [{ check, state, says, todo }] }
  --help         this text

Run it where the process runs, with its environment. Exit code: 0, or 1 with any FAIL.
`

const labels = {
  ok: styleText('green', 'ok  '),
  warn: styleText('yellow', 'warn'),
  fail: styleText('red', 'FAIL'),
  skipped: styleText('dim', '-   '),
} as const

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof AppError ? `${error.code}: ${error.message}\n${error.hint}` : describeError(error))
  process.exit(1)
})

async function main(args: string[]): Promise<void> {
  const wanted = readFlags(args)
  if (wanted.help) return void process.stdout.write(help)
  const part = wanted.for ?? partOf(process.env)
  const house = openHouse(part, process.env)
  const findings = await diagnose(house)
  const isWell = findings.every(({ state }) => state !== 'fail')
  process.stdout.write(
    wanted.json ? `${JSON.stringify({ ok: isWell, part, findings }, null, 1)}\n` : tableOf(part, findings),
  )
  // What hangs must not hold the end up.
  await Promise.race([house.close().catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 2_000))])
  process.exit(isWell ? 0 : 1)
}

function tableOf(part: Part, findings: readonly Diagnosis[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length))
  const lines = findings.flatMap((one) => [
    `${labels[one.state]}  ${one.check.padEnd(width)}  ${one.says}`,
    ...('todo' in one ? [`${' '.repeat(width + 8)}→ ${one.todo}`] : []),
  ])
  const count = (state: Diagnosis['state']): number => findings.filter((one) => one.state === state).length
  return [...lines, '', `${part}: ${count('ok')} ok, ${count('warn')} warn, ${count('fail')} FAIL`, ''].join('\n')
}

function readFlags(args: string[]): { help?: boolean; json?: boolean; for: Part | undefined } {
  const options = {
    for: { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  } as const
  const hint = 'See: npm run doctor -- --help'
  try {
    const { values } = parseArgs({ args, options })
    const part = z.enum(parts).optional().safeParse(values.for)
    if (!part.success) throw new AppError('BAD_INPUT', `--for is one of ${parts.join(', ')}.`, { hint })
    return { ...values, for: part.data }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('BAD_INPUT', error instanceof Error ? error.message : 'The options cannot be read.', { hint })
  }
}
