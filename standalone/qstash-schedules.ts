import { z } from 'zod'
import { readEnv } from '../shared/env.ts'
import { AppError } from '../shared/errors.ts'
import { describeError } from '../shared/log.ts'
import { openQStash } from '../shared/qstash/client.ts'
import { ensureSchedules, tickScheduleId } from '../shared/qstash/ensure-schedules.ts'
import { qstashFaults, qstashVariables } from '../shared/qstash/env.ts'

const help = `Has QStash call the housekeeping of the control plane every minute.

  npm run qstash-schedules              makes the schedule at QStash, corrects it, or leaves it as it is
  npm run qstash-schedules -- --help    this text

Environment: QSTASH_TOKEN, QSTASH_CURRENT_SIGNING_KEY, QSTASH_NEXT_SIGNING_KEY, WAKE_URL and TICK_URL, and QSTASH_URL for
another region. A new schedule is live within a minute.
`

const { QSTASH_TOKEN, TICK_URL } = qstashVariables
const shape = z
  .object({ ...qstashVariables, QSTASH_TOKEN: QSTASH_TOKEN.unwrap(), TICK_URL: TICK_URL.unwrap() })
  .superRefine(qstashFaults)

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(
    error instanceof AppError
      ? `${error.code}: ${error.message}\n${error.cause === undefined ? error.hint : describeError(error.cause)}`
      : describeError(error),
  )
  process.exitCode = 1
})

async function main(args: string[]): Promise<void> {
  if (args.includes('--help') || args.includes('-h')) return void process.stdout.write(help)
  if (args[0] !== undefined) throw new AppError('BAD_INPUT', `There is no option ${args[0]}.`, { hint: help })
  const env = readEnv(shape, process.env)
  const ensured = await ensureSchedules(openQStash(env), env.TICK_URL)
  console.log(`${tickScheduleId}: ${ensured}, calls ${env.TICK_URL} every minute`)
}
