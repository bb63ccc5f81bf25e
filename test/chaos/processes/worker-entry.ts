import { systemClock } from '../../../shared/clock.ts'
import { secretBox } from '../../../shared/secrets/secret-box.ts'
import { signingKeys } from '../../../shared/secrets/signing-keys.ts'
import type { WakeTarget, Waker } from '../../../shared/waking/waker.ts'
import { openPg } from '../../../workers/db/pg.ts'
import { openSignals } from '../../../workers/db/signals.ts'
import { folderId } from '../../../workers/folder-id.ts'
import { processLog } from '../../../workers/process-log.ts'
import { startWorker } from '../../../workers/worker.ts'
import { random } from '../simulator/random.ts'
import type { WorkerStart } from './fleet.ts'

// The product's worker with a short lease, wakes that are lost, doubled and late, and a clock of its own.
const start = JSON.parse(process.argv[2] ?? '') as WorkerStart // from fleet.ts
const rng = random(start.seed)
const clock = { ...systemClock, now: () => new Date(Date.now() + start.skewMs) }
const log = processLog('warn')
const { db } = openPg(start.url, 10)
const signals = openSignals(start.url, { db, clock, log })
const keys = { current: 'k1', keys: { k1: btoa('0123456789abcdef0123456789abcdef') } }

process.once('disconnect', () => process.exit(0))
const worker = startWorker(
  {
    db,
    secrets: secretBox(keys),
    signing: signingKeys(keys),
    waker: unreliable(signals.waker),
    hub: signals.hub,
    clock,
    log,
  },
  {
    dataDir: start.dataDir,
    folder: await folderId(start.dataDir),
    allowPrivateNetwork: false,
    capacity: 4,
    leaseMs: start.leaseMs,
    heartbeatMs: 500,
    pollMs: 500,
  },
)
process.send?.({ worker: worker.id })

process.once('message', () => void worker.stop(10_000).then(() => process.exit(0)))

function unreliable(waker: Waker): Waker {
  return {
    wake: waker.wake,
    listen(callback) {
      const hear = (target: WakeTarget): void => {
        if (rng.chance(0.3)) return
        for (let times = rng.chance(0.3) ? 2 : 1; times > 0; times--)
          setTimeout(() => callback(target), rng.whole(0, 1_300))
      }
      return waker.listen(hear)
    },
  }
}
