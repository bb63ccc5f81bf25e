import { parseArgs } from 'node:util'
import { proveEmbedded } from './embedded.ts'
import { provePostgres } from './postgres.ts'

const help = `Runs real pipelines in the product's own worker processes among faults: workers killed and held up beyond their
leases, wakes lost, doubled and late, connections cut, PostgreSQL restarted, clocks hours off; then embedded, with the
whole process killed. At the end nothing may be lost, done twice, out of order or miscounted.

  --runs <n>      runs over PostgreSQL (default 500; embedded a fifth of them, at least 20)
  --seed <n>      faults and load are those of this number (default: another each time; it is printed)
  --workers <n>   worker processes over PostgreSQL (default 4)
  --tenants <n>   tenants (default 10)
  --takeovers <n> kills that are timed when all else is calm (default 10)
  --only <postgres|embedded>
  --help`

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '500' },
    seed: { type: 'string' },
    workers: { type: 'string', default: '4' },
    tenants: { type: 'string', default: '10' },
    takeovers: { type: 'string', default: '10' },
    only: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) console.log(help)
else {
  const options = {
    runs: Number(values.runs),
    seed: Number(values.seed ?? Date.now() % 1_000_000),
    workers: Number(values.workers),
    tenants: Number(values.tenants),
    takeovers: Number(values.takeovers),
  }
  console.log(`seed ${options.seed}; again: npm run chaos -- --runs ${options.runs} --seed ${options.seed}`)
  let isKept = true
  if (values.only !== 'embedded') isKept = await provePostgres(options)
  if (values.only !== 'postgres')
    isKept = (await proveEmbedded({ seed: options.seed, runs: Math.max(20, options.runs / 5) })) && isKept
  process.exitCode = isKept ? 0 : 1
}
