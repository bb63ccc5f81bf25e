import { hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { isAnchor, type Witness } from '../shared/audit-anchor.ts'
import { breakReasons } from '../shared/audit-chain.ts'
import { type Verified, verifyAudit } from '../shared/audit-verify.ts'
import type { Db } from '../shared/db/db.ts'
import {
  anchorFiles,
  readAnchorKey,
  readWitnesses,
  type TenantHead,
  tenantHeads,
  writeAnchors,
} from '../standalone/audit-anchors.ts'
import { lockFolder } from '../standalone/lock.ts'
import { openPglite } from '../standalone/pglite.ts'
import { migrationsFolder } from '../standalone/ports.ts'
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
    const witnesses = await allWitnesses(asked)
    const opened = await openDatabase(asked)
    try {
      return await verifyAll(opened.db, asked, witnesses, print)
    } finally {
      await opened.close()
    }
  } catch (error) {
    print(`could not be read: ${error instanceof Error ? error.message : String(error)}`)
    return exitCodes.unreadable
  }
}

async function verifyAll(db: Db, asked: Asked, witnesses: Witness[], print: (line: string) => void): Promise<number> {
  const known = await tenantHeads(db)
  // A tenant that only a witness knows has lost its log, and itself.
  const gone = witnesses.filter(({ tenantId }) => !known.some((one) => one.tenantId === tenantId))
  const all: TenantHead[] = [
    ...known,
    ...[...new Set(gone.map(({ tenantId }) => tenantId))].map((tenantId) => ({ tenantId, head: undefined })),
  ]
  const wanted = all.filter(({ tenantId }) => asked.tenant === undefined || tenantId === asked.tenant)
  if (wanted.length === 0) throw new Error(`there is no tenant ${asked.tenant ?? ''}`)
  const codes = new Set<number>()
  for (const { tenantId } of wanted) {
    const own = witnesses.filter((witness) => witness.tenantId === tenantId)
    const verified = await verifyAudit(db, { tenantId, side: 'worker', witnesses: own, digest: sha256 })
    codes.add(codeOf(verified))
    print(lineOf(tenantId, verified, own.length))
  }
  const code = [exitCodes.broken, exitCodes.witness].find((one) => codes.has(one)) ?? exitCodes.good
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

function lineOf(tenantId: string, { rows, last, broken }: Verified, witnesses: number): string {
  if (!broken) return `good    ${tenantId}  ${rows} rows, ${witnesses} witnesses, head ${last.seq} ${last.hash}`
  return `BROKEN  ${tenantId}  at ${broken.seq}: ${broken.reason}. ${breakReasons[broken.reason]}`
}

async function allWitnesses(asked: Asked): Promise<Witness[]> {
  const plain = asked.witness === undefined ? [] : await readWitnesses(asked.witness)
  if (asked.anchors === undefined) return plain
  if (asked['public-key'] === undefined) throw new Error('--anchors needs --public-key')
  const key = readAnchorKey(asked['public-key'])
  const anchors = await readWitnesses(asked.anchors)
  for (const [index, anchor] of anchors.entries())
    if (!(await isAnchor(key, anchor)))
      throw new Error(`line ${index + 1} of ${asked.anchors} is not signed by the key`)
  return [...plain, ...anchors]
}

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
