import type { Clock } from './clock.ts'
import type { Db } from './db/db.ts'
import type { Log } from './log.ts'
import type { SecretBox } from './secrets/secret-box.ts'
import type { SigningKeys } from './secrets/signing-keys.ts'
import type { Hub } from './waking/hub.ts'
import type { Waker } from './waking/waker.ts'

/** Everything outside that both sides use. Wired in one file per process. */
export type Ports = {
  db: Db
  secrets: SecretBox
  signing: SigningKeys
  waker: Waker
  hub: Hub
  clock: Clock
  log: Log
}
