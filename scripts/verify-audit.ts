import { hash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { edgeEnv } from '../control-plane/env.ts'
import { isAnchor, type Witness } from '../shared/audit-anchor.ts'
import { breakReasons } from '../shared/audit-chain.ts'
import type { CheckpointKeys } from '../shared/audit-checkpoint.ts'
import { compareWitnesses, type Seen, tenantIds } from '../shared/audit-sweep.ts'
import { type Verified, verifyAudit } from '../shared/audit-verify.ts'
import type { Db } from '../shared/db/db.ts'
import { readEnv } from '../shared/env.ts'
import type { PlatformKeys } from '../shared/secrets/secret-box.ts'
import { signingKeys } from '../shared/secrets/signing-keys.ts'
import { anchorFiles, readAnchorKey, readWitnesses, writeAnchors } from '../standalone/audit-anchors.ts'
import { lockFolder } from '../standalone/lock.ts'
import { openPglite } from '../standalone/pglite.ts'
import { platformKeysShape } from '../shared/secrets/platform-keys.ts'
import { migrationsFolder, platformKeysFile } from '../standalone/ports.ts'
import { openPg } from '../workers/db/pg.ts'

const help = `Verifies the audit logs of a deployment: recomputes every hash outside the database.

  npm run verify-audit -- --url postgres://…    a server; the login must own the product's tables
  npm run verify-audit -- --data-dir ./data     the folder of a stopped embedded mode; its anchors count too
    --tenant <id>         only this tenant
    --witness <file>      heads that were kept: {"tenantId","seq","hash"} as auditHead gives them, one per line
    --anchors <file>      signed heads, as the embedded mode and --anchor write them
    --public-key <file>   the key of the anchors, a JSON Web Key; needed with --anchors
    --anchor <file>       appends a signed head of every good log
    --signing-key <file>  signs them, a JSON Web Key; needed with --anchor
    --checkpoint-keys <file>  public keys of the platform, for logs that were cut: {"<id>": JSON Web Key}. Default: those of
                          the folder, or of PLATFORM_KEYS in the environment
    --print-checkpoint-keys   prints that file for auditors and ends

Exit code: 0 good; 1 broken, with the first bad number; 2 not what a witness or an anchor saw; 3 could not be read.
`

/** What a verification ended with. */
export const exitCodes = { good: 0, broken: 1, witness: 2, unreadable: 3 } as const

const options = {
  url: { type: 'string' },
  'data-dir': { type: 'string' },
  tenant: { type: 'string' },
  witness: { type: 'string' },
  anchors: { type: 'string' },
  'public-key': { type: 'string' },
  anchor: { type: 'string' },
  'signing-key': { type: 'string' },
  'checkpoint-keys': { type: 'string' },
  'print-checkpoint-keys': { type: 'boolean' },
  help: { type: 'boolean' },
} as const
type Asked = ReturnType<typeof parseArgs<{ options: typeof options }>>['values']

/** Runs the command with its arguments; `print` gets a line per tenant. Answers the exit code, never throws. */
export async function run(args: string[], print: (line: string) => void): Promise<number> {
  try {
    const { values } = parseArgs({ args, options })
    if (values.help) {
      print(help)
      return exitCodes.good
    }
    const asked = withFolderAnchors(values)
    if (asked['print-checkpoint-keys']) {
      print(JSON.stringify(await publicKeys(asked)))
      return exitCodes.good
    }
    const opened = await openDatabase(asked)
    try {
      return await verifyAll(opened.db, asked, print)
    } finally {
      await opened.close()
    }
  } catch (error) {
    print(`could not be read: ${error instanceof Error ? error.message : String(error)}`)
    return exitCodes.unreadable
  }
}

async function verifyAll(db: Db, asked: Asked, print: (line: string) => void): Promise<number> {
  const { tenant } = asked
  const seen: Seen = new Map()
  for (const witnesses of allWitnesses(asked)) await compareWitnesses(db, 'worker', witnesses, seen)
  const keys = checkpointKeysOf(asked)
  const codes = new Set<number>()
  const one = async (tenantId: string): Promise<void> => {
    const { count = 0, lost } = seen.get(tenantId) ?? {}
    seen.delete(tenantId)
    const verified = await verifyAudit(db, { tenantId, side: 'worker', keys, digest: sha256 })
    const found: Verified =
      lost === undefined || verified.broken
        ? verified
        : { ...verified, broken: { seq: lost, reason: 'WITNESS_MISMATCH' } }
    codes.add(codeOf(found))
    print(lineOf(tenantId, found, count))
  }
  for await (const tenantId of tenantIds(db, 'worker'))
    if (tenant === undefined || tenant === tenantId) await one(tenantId)
  // A tenant that only a witness knows has lost its log, and itself.
  for (const tenantId of seen.keys()) if (tenant === undefined || tenant === tenantId) await one(tenantId)
  if (codes.size === 0) throw new Error(`there is no tenant ${tenant ?? ''}`)
  const code = [exitCodes.broken, exitCodes.witness].find((each) => codes.has(each)) ?? exitCodes.good
  if (code === exitCodes.good && asked.anchor !== undefined) {
    if (asked['signing-key'] === undefined) throw new Error('--anchor needs --signing-key')
    const written = await writeAnchors(db, asked.anchor, readAnchorKey(asked['signing-key']), new Date())
    print(`${written} anchors written`)
  }
  return code
}

const sha256 = (texts: string[]): string[] => texts.map((text) => hash('sha256', text))

function codeOf({ broken }: Verified): number {
  if (!broken) return exitCodes.good
  return broken.reason === 'WITNESS_MISMATCH' ? exitCodes.witness : exitCodes.broken
}

function lineOf(tenantId: string, { rows, cut, last, broken }: Verified, witnesses: number): string {
  const from = cut > 0 ? ` from ${cut + 1} on` : ''
  if (!broken) return `good    ${tenantId}  ${rows} rows${from}, ${witnesses} witnesses, head ${last.seq} ${last.hash}`
  return `BROKEN  ${tenantId}  at ${broken.seq}: ${broken.reason}. ${breakReasons[broken.reason]}`
}

function* allWitnesses(asked: Asked): Generator<AsyncIterable<Witness>> {
  if (asked.witness !== undefined) yield readWitnesses(asked.witness)
  if (asked.anchors === undefined) return
  if (asked['public-key'] === undefined) throw new Error('--anchors needs --public-key')
  yield readAnchors(asked.anchors, readAnchorKey(asked['public-key']))
}

async function* readAnchors(file: string, key: JsonWebKey): AsyncGenerator<Witness> {
  let line = 0
  for await (const anchor of readWitnesses(file)) {
    line++
    if (!(await isAnchor(key, anchor))) throw new Error(`line ${line} of ${file} is not signed by the key`)
    yield anchor
  }
}

// Only a log that was cut needs them.
function checkpointKeysOf(asked: Asked): CheckpointKeys {
  let known: Promise<Record<string, JsonWebKey>> | undefined
  return async (id) => {
    const keys = await (known ??= publicKeys(asked))
    return Object.hasOwn(keys, id) ? keys[id] : undefined
  }
}

async function publicKeys({ 'data-dir': folder, 'checkpoint-keys': file }: Asked): Promise<Record<string, JsonWebKey>> {
  if (file !== undefined) return keysShape.parse(JSON.parse(readFileSync(file, 'utf8')))
  const platform = platformKeysOf(folder)
  const signing = signingKeys(platform)
  const pairs = Object.keys(platform.keys).map(
    async (id) => [id, (await signing.findPair(id))?.publicKey ?? {}] as const,
  )
  return Object.fromEntries(await Promise.all(pairs))
}

function platformKeysOf(folder: string | undefined): PlatformKeys {
  if (folder !== undefined) return platformKeysShape.parse(JSON.parse(readFileSync(platformKeysFile(folder), 'utf8')))
  const { PLATFORM_KEYS } = process.env
  if (!PLATFORM_KEYS) throw new Error('a log was cut: name --checkpoint-keys, or give PLATFORM_KEYS')
  return readEnv(edgeEnv.pick({ PLATFORM_KEYS: true }), process.env).PLATFORM_KEYS
}

const keysShape = z.record(
  z.string(),
  z.looseObject({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: z.string() }),
)

// A data folder has anchors of its own, unless others are named.
function withFolderAnchors(asked: Asked): Asked {
  const folder = asked['data-dir']
  if (folder === undefined || asked.anchors !== undefined) return asked
  const { anchors, publicKey } = anchorFiles(folder)
  return existsSync(anchors) ? { ...asked, anchors, 'public-key': asked['public-key'] ?? publicKey } : asked
}

async function openDatabase(asked: Asked): Promise<{ db: Db; close(): Promise<void> }> {
  const { url, 'data-dir': folder } = asked
  if ((url === undefined) === (folder === undefined)) throw new Error('name either --url or --data-dir (see --help)')
  if (url !== undefined) return openPg(url, 2)
  const database = join(folder ?? '', 'postgres')
  if (!existsSync(join(database, 'PG_VERSION'))) throw new Error(`there is no database in ${folder}`)
  const lock = await lockFolder(folder ?? '')
  try {
    const { db, close } = await openPglite(database, migrationsFolder)
    return {
      db,
      async close() {
        await close()
        lock[Symbol.dispose]()
      },
    }
  } catch (error) {
    lock[Symbol.dispose]()
    throw error
  }
}

if (import.meta.main) process.exitCode = await run(process.argv.slice(2), (line) => console.log(line))
