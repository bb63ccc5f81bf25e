import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../shared/clock.ts'
import type { Ports } from '../shared/ports.ts'
import { platformKeysShape } from '../shared/secrets/platform-keys.ts'
import { type PlatformKeys, secretBox } from '../shared/secrets/secret-box.ts'
import { signingKeys } from '../shared/secrets/signing-keys.ts'
import { inProcessHub } from '../shared/waking/hub.ts'
import { inProcessWaker } from '../shared/waking/waker.ts'
import { processLog } from '../workers/process-log.ts'
import { openPglite } from './pglite.ts'

/** Folder of the migrations. */
export const migrationsFolder = fileURLToPath(new URL('../schema/migrations', import.meta.url))

/** Where the embedded mode keeps its platform keys. */
export const platformKeysFile = (dataDir: string): string => join(dataDir, 'platform-keys.json')

/** The embedded mode's ports over `dataDir`, whose lock the caller holds. */
export async function openPorts(dataDir: string, logLevel: string): Promise<{ ports: Ports; close(): Promise<void> }> {
  const keys = platformKeys(platformKeysFile(dataDir))
  const { db, close } = await openPglite(join(dataDir, 'postgres'), migrationsFolder)
  return {
    ports: {
      db,
      secrets: secretBox(keys),
      signing: signingKeys(keys),
      waker: inProcessWaker(),
      hub: inProcessHub(),
      clock: systemClock,
      log: processLog(logLevel),
    },
    close,
  }
}

// The platform key is made once and kept beside the data, for the owner's eyes only.
function platformKeys(file: string): PlatformKeys {
  if (existsSync(file)) return platformKeysShape.parse(JSON.parse(readFileSync(file, 'utf8')))
  const made: PlatformKeys = { current: 'k1', keys: { k1: randomBytes(32).toString('base64') } }
  writeFileSync(file, JSON.stringify(made), { flag: 'wx', mode: 0o600 })
  return made
}
