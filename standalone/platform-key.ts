import { and, eq, isNull } from 'drizzle-orm'
import { createPlatform } from '../control-plane/tenants/bootstrap.ts'
import { platformTenantId } from '../schema/roles.ts'
import { apiKey } from '../schema/tables/index.ts'
import { systemClock } from '../shared/clock.ts'
import { type Db, withTenant } from '../shared/db/db.ts'
import { readEnv } from '../shared/env.ts'
import { AppError } from '../shared/errors.ts'
import { describeError } from '../shared/log.ts'
import { liveSecrets } from '../shared/redact.ts'
import { makeApiKey } from '../shared/secrets/api-key.ts'
import { secretBox } from '../shared/secrets/secret-box.ts'
import { openPg } from '../workers/db/pg.ts'
import { databaseStanding } from '../workers/db/standing.ts'
import { processEnv } from '../workers/env.ts'

const help = `Makes an API key of the platform, which onboards tenants, and prints it once. Nobody can show it again.

  npm run --silent platform-key               the first key
  npm run --silent platform-key -- --another  one more, when all others are lost; revoke those through the API then

Environment: DATABASE_URL, as the control plane's login, and PLATFORM_KEYS.
`

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof AppError ? `${error.code}: ${error.message}\n${error.hint}` : describeError(error))
  process.exit(1)
})

async function main(args: string[]): Promise<void> {
  const unknown = args.find((arg) => !['--another', '--help', '-h'].includes(arg))
  if (unknown !== undefined) throw new AppError('BAD_INPUT', `There is no option ${unknown}.`, { hint: help })
  if (args.includes('--help') || args.includes('-h')) return void process.stdout.write(help)
  const env = readEnv(processEnv.pick({ DATABASE_URL: true, PLATFORM_KEYS: true }), process.env)
  liveSecrets.guard(decodeURIComponent(new URL(env.DATABASE_URL).password))
  const { db, close } = openPg(env.DATABASE_URL, 2)
  try {
    const standing = await databaseStanding(db, 'api')
    if (!standing.ready) throw new AppError('UNAVAILABLE', standing.why, { hint: standing.hint })
    if (!args.includes('--another') && (await hasKey(db)))
      throw new AppError('CONFLICT', 'The platform has a key.', {
        hint: 'Use that one. When it is lost: npm run --silent platform-key -- --another',
      })
    const { token } = await makeApiKey()
    await createPlatform({ db, clock: systemClock, secrets: secretBox(env.PLATFORM_KEYS) }, token)
    console.log(token)
  } finally {
    await close()
  }
}

async function hasKey(db: Db): Promise<boolean> {
  const live = await withTenant(db, { tenantId: platformTenantId, side: 'api' }, (tx) =>
    tx
      .select({ id: apiKey.id })
      .from(apiKey)
      .where(and(eq(apiKey.tenantId, platformTenantId), isNull(apiKey.revokedAt)))
      .limit(1),
  )
  return live.length > 0
}
