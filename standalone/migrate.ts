import { parseArgs } from 'node:util'
import { z } from 'zod'
import journal from '../schema/migrations/meta/_journal.json' with { type: 'json' }
import { readEnv } from '../shared/env.ts'
import { AppError } from '../shared/errors.ts'
import { describeError } from '../shared/log.ts'
import { liveSecrets } from '../shared/redact.ts'
import { grantSide, migratePg } from '../workers/db/pg.ts'
import { processEnv } from '../workers/env.ts'
import { migrationsFolder } from './ports.ts'

const help = `Brings a PostgreSQL database to this version of Tributary. Safe to repeat, and while the product runs.

  npm run migrate
  npm run migrate -- --api-login <role> --worker-login <role>

  --api-login <role>      lets this login become tributary_api: for control planes
  --worker-login <role>   lets this login become tributary_worker: for workers
  --help                  this text

Environment: DATABASE_URL, as the owner of the database, who may create roles. Make the logins before:
  create role tributary_web login noinherit password '...';
  create role tributary_run login noinherit password '...';
`

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof AppError ? `${error.code}: ${error.message}\n${error.hint}` : describeError(error))
  process.exit(1)
})

async function main(args: string[]): Promise<void> {
  const wanted = readFlags(args)
  if (wanted.help) return void process.stdout.write(help)
  const env = readEnv(z.object({ DATABASE_URL: processEnv.shape.DATABASE_URL }), process.env)
  liveSecrets.guard(decodeURIComponent(new URL(env.DATABASE_URL).password))
  await migratePg(env.DATABASE_URL, migrationsFolder)
  console.log(`The database is at ${journal.entries.at(-1)?.tag ?? 'no version'}.`)
  const sides = { api: wanted['api-login'], worker: wanted['worker-login'] } as const
  for (const side of ['api', 'worker'] as const) {
    const login = sides[side]
    if (login === undefined) continue
    await grantSide(env.DATABASE_URL, login, side)
    console.log(`The login ${login} may become tributary_${side}.`)
  }
}

function readFlags(args: string[]) {
  try {
    const options = {
      'api-login': { type: 'string' },
      'worker-login': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    } as const
    return parseArgs({ args, options }).values
  } catch (error) {
    throw new AppError('BAD_INPUT', error instanceof Error ? error.message : 'The options cannot be read.', {
      hint: 'See: npm run migrate -- --help',
    })
  }
}
