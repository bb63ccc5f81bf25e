import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { drizzle } from 'drizzle-orm/pglite'
import type { z } from 'zod'
import { edgeEnv } from '../../control-plane/env.ts'
import * as tables from '../../schema/tables/index.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Db } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { qstashVariables } from '../../shared/qstash/env.ts'
import { liveSecrets } from '../../shared/redact.ts'
import { platformKeysText } from '../../shared/secrets/platform-keys.ts'
import type { PlatformKeys } from '../../shared/secrets/secret-box.ts'
import { openPg } from '../../workers/db/pg.ts'
import { smtpShape, type SmtpConfig } from '../../workers/delivery/mail.ts'
import { workerEnv } from '../../workers/env.ts'
import { standaloneEnv } from '../env.ts'
import { lockFolder } from '../lock.ts'
import { platformKeysFile } from '../ports.ts'

/** What an environment is for; `self-host` is one that control planes and workers share. */
export const parts = ['embedded', 'self-host', 'control-plane', 'worker', 'edge'] as const
/** What an environment is for. */
export type Part = (typeof parts)[number]

/** Variables as the environment has them. */
export type Variables = Readonly<Record<string, string | undefined>>

/** A deployment to look at. What its environment says wrongly is not there. */
export type House = {
  part: Part
  variables: Variables
  clock: Clock
  databaseUrl: string | undefined
  /** The database, opened when it is first asked for; undefined without one. Throws CONFLICT while another process has it. */
  database(): Promise<Db | undefined>
  platformKeys: PlatformKeys | undefined
  /** Where tenants' lakes and files are; undefined where none are. */
  dataDir: string | undefined
  mail: SmtpConfig | undefined
  redisUrl: string | undefined
  upstash: { url: string; token: string } | undefined
  qstash: {
    url: string
    token: string | undefined
    keys: { current: string; next: string } | undefined
    wakeUrl: string | undefined
    tickUrl: string | undefined
  }
  close(): Promise<void>
}

/** What the environment is for, as far as it can be told: without a database of its own it is the embedded mode. */
export function partOf(variables: Variables): Part {
  if (!variables['DATABASE_URL']) return 'embedded'
  return variables['UPSTASH_REDIS_REST_URL'] || variables['NEON_PROXY'] ? 'edge' : 'self-host'
}

/**
 * Opens a deployment to be looked at. Everything secret in its environment is kept out of what this process says from now
 * on, whether it is well written or not.
 */
export function openHouse(part: Part, variables: Variables, clock: Clock = systemClock): House {
  for (const [name, value] of Object.entries(variables)) if (value && isSecret(name)) guard(name, value)
  const { shape } = part === 'embedded' ? standaloneEnv : workerEnv
  const read = <S extends z.ZodType>(form: S, name: string): z.output<S> | undefined =>
    form.safeParse(variables[name] || undefined).data
  const databaseUrl = part === 'embedded' ? undefined : read(edgeEnv.shape.DATABASE_URL, 'DATABASE_URL')
  const dataDir =
    part === 'edge' || part === 'control-plane'
      ? undefined
      : resolve(read(shape.TRIBUTARY_DATA_DIR, 'TRIBUTARY_DATA_DIR') ?? './data')
  const upstashUrl = read(edgeEnv.shape.UPSTASH_REDIS_REST_URL, 'UPSTASH_REDIS_REST_URL')
  const upstashToken = read(edgeEnv.shape.UPSTASH_REDIS_REST_TOKEN, 'UPSTASH_REDIS_REST_TOKEN')

  const { QSTASH_URL, QSTASH_TOKEN, QSTASH_CURRENT_SIGNING_KEY, WAKE_URL, TICK_URL } = qstashVariables
  const [current, next] = ['QSTASH_CURRENT_SIGNING_KEY', 'QSTASH_NEXT_SIGNING_KEY'].map((name) =>
    read(QSTASH_CURRENT_SIGNING_KEY, name),
  )

  let opened: Promise<Opened> | undefined
  const open = (): Promise<Opened> => {
    if (databaseUrl !== undefined) return Promise.resolve(openPg(databaseUrl, 2))
    return part === 'embedded' && dataDir !== undefined ? openEmbedded(dataDir) : Promise.resolve(nothing)
  }
  return {
    part,
    variables,
    clock,
    databaseUrl,
    database: async () => (await (opened ??= open())).db,
    platformKeys: part === 'embedded' ? keysOfFolder(dataDir) : read(platformKeysText, 'PLATFORM_KEYS'),
    dataDir,
    mail: smtpShape.safeParse({ url: variables['SMTP_URL'], from: variables['SMTP_FROM'] }).data,
    redisUrl: part === 'edge' || part === 'embedded' ? undefined : read(workerEnv.shape.REDIS_URL, 'REDIS_URL'),
    upstash:
      part === 'edge' && upstashUrl !== undefined && upstashToken !== undefined
        ? { url: upstashUrl, token: upstashToken }
        : undefined,
    qstash: {
      url: read(QSTASH_URL, 'QSTASH_URL') ?? '',
      token: read(QSTASH_TOKEN, 'QSTASH_TOKEN'),
      keys: current === undefined || next === undefined ? undefined : { current, next },
      wakeUrl: read(WAKE_URL, 'WAKE_URL'),
      tickUrl: read(TICK_URL, 'TICK_URL'),
    },
    async close() {
      const { close } = (await opened?.catch(() => undefined)) ?? nothing
      await close()
    },
  }
}

type Opened = { db: Db | undefined; close(): Promise<void> }
const nothing: Opened = { db: undefined, close: async () => undefined }

// As it is: not migrated, and not made where there is none yet.
async function openEmbedded(dataDir: string): Promise<Opened> {
  const folder = join(dataDir, 'postgres')
  if (!existsSync(join(folder, 'PG_VERSION'))) return nothing
  const lock = await lockFolder(dataDir)
  try {
    const client = await PGlite.create(folder)
    return {
      db: drizzle(client, { schema: tables }),
      async close() {
        await client.close()
        lock[Symbol.dispose]()
      },
    }
  } catch (cause) {
    lock[Symbol.dispose]()
    throw new AppError('INTERNAL', 'The embedded database cannot be opened.', { cause })
  }
}

function keysOfFolder(dataDir: string | undefined): PlatformKeys | undefined {
  const file = platformKeysFile(dataDir ?? '')
  if (!existsSync(file)) return undefined
  const text = readFileSync(file, 'utf8')
  guard('PLATFORM_KEYS', text)
  return platformKeysText.safeParse(text).data
}

const isSecret = (name: string): boolean => /_URL$|KEY|TOKEN|SECRET|PASSWORD/.test(name)

// What is badly written is secret as well: its parts, wherever one might begin, and not only what a parser finds.
function guard(name: string, value: string): void {
  if (name.endsWith('_URL')) {
    const password = /^(?:[a-z]+:\/\/)?[^/]*?:(.*)@/i.exec(value)?.[1]
    if (password) liveSecrets.guard([password, unescaped(password)])
    return
  }
  liveSecrets.guard([value, ...value.split(/[\s"',:{}]+/).filter((piece) => piece.length >= 12)])
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
