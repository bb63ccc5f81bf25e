import { styleText } from 'node:util'
import closeWithGrace from 'close-with-grace'
import { AppError } from '../shared/errors.ts'
import { readEnv } from '../shared/env.ts'
import { runDemo } from './demo/run.ts'
import { type StandaloneEnv, standaloneEnv } from './env.ts'
import { type Standalone, startStandalone } from './start.ts'

const help = `Tributary in one process: control plane, worker and embedded PostgreSQL.

  npm start                    start, run the demo on the first start, stay up until Ctrl-C
  npm run demo                 the same, then exit: 0 when every file was delivered, 1 otherwise
  npm start -- --no-demo       start without the demo
  npm start -- --help          this text

Environment: see .env.example (TRIBUTARY_DATA_DIR, HOST, PORT, SMTP_URL, SMTP_FROM, WORKER_CAPACITY, LAKE_EXTENSIONS, LOG_LEVEL).
`

let stopping = false

await main(process.argv.slice(2)).catch((error: unknown) => {
  // What breaks off while the process is being stopped is no failure; the end is already on its way.
  if (stopping) return
  console.error(error instanceof AppError ? `${error.code}: ${error.message}\n${error.hint}` : error)
  process.exit(1)
})

async function main(args: string[]): Promise<void> {
  const unknown = args.find((arg) => !['--once', '--no-demo', '--help', '-h'].includes(arg))
  if (unknown !== undefined) throw new AppError('BAD_INPUT', `There is no option ${unknown}.`, { hint: help })
  if (args.includes('--help') || args.includes('-h')) return void process.stdout.write(help)

  const env = readEnv(standaloneEnv, process.env)
  if (env.SMTP_URL && !env.SMTP_FROM)
    throw new AppError('BAD_INPUT', 'SMTP_URL needs SMTP_FROM.', { hint: 'See .env.example.' })
  const startedAt = performance.now()
  const house = await start(env)
  const closing = closeWithGrace({ delay: 20_000 }, async ({ err, signal }) => {
    stopping = true
    if (err) console.error(err)
    if (signal) console.log(`\n${signal}: no new work; running steps get 10 s, then go back to their queue.`)
    await house.stop(10_000)
  })
  console.log(
    `Tributary is up at ${styleText('bold', house.url)} after ${((performance.now() - startedAt) / 1000).toFixed(1)} s, data in ${house.dataDir}`,
  )
  console.log(`Onboard tenants with the platform's key: ${house.dataDir}/platform-api-key\n`)

  const delivered = args.includes('--no-demo') ? true : await runDemo(house, startedAt)
  if (args.includes('--once')) {
    closing.uninstall()
    await house.stop(10_000)
    process.exit(delivered ? 0 : 1)
  }
  console.log('\nStays up until Ctrl-C.')
}

function start(env: StandaloneEnv): Promise<Standalone> {
  return startStandalone({
    dataDir: env.TRIBUTARY_DATA_DIR,
    host: env.HOST,
    port: env.PORT,
    logLevel: env.LOG_LEVEL,
    accountUrl: env.ACCOUNT_URL,
    development: true,
    allowPrivateNetwork: env.ALLOW_PRIVATE_NETWORK,
    capacity: env.WORKER_CAPACITY,
    lake: { extensions: env.LAKE_EXTENSIONS },
    mail: env.SMTP_URL && env.SMTP_FROM ? { url: env.SMTP_URL, from: env.SMTP_FROM } : undefined,
  })
}
