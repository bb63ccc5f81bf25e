import { queueTypes } from '../../schema/states.ts'
import { systemClock } from '../../shared/clock.ts'
import { newId } from '../../shared/ids.ts'
import { type Claim, claimSteps, completeStep } from '../../shared/runs/ledger.ts'
import { openPg } from '../../workers/db/pg.ts'
import { openSignals } from '../../workers/db/signals.ts'
import { processLog } from '../../workers/process-log.ts'
import { now } from '../dispatch/crew.ts'

// A worker whose steps are timers: `wait_300_7` takes 300 ms. It tells when it picked each up and when it had ended it.
const [, , url = '', slots = '4'] = process.argv
const { db } = openPg(url)
const { waker } = openSignals(url, { db, clock: systemClock, log: processLog('error') })
const worker = newId('worker')
const running = new Set<Promise<void>>()
let nudge = (): void => undefined

process.once('disconnect', () => process.exit(0))
waker.listen(() => nudge())
process.send?.({ ready: true })

for (;;) {
  const { promise, resolve } = Promise.withResolvers<void>()
  nudge = resolve
  const limit = Number(slots) - running.size
  const claims =
    limit === 0 ? [] : await claimSteps(db, { worker, queues: queueTypes, limit, leaseMs: 30_000, tenants: null })
  for (const claim of claims) {
    const work = run(claim).finally(() => {
      running.delete(work)
      nudge()
    })
    running.add(work)
  }
  if (claims.length === 0) await Promise.race([promise, systemClock.sleep(1_000)])
}

async function run(claim: Claim): Promise<void> {
  const pickedAt = now()
  await systemClock.sleep(Number(claim.stepKey.split('_')[1]))
  if (!(await completeStep(db, claim, {}, []))) throw new Error('a step was lost')
  process.send?.({ tenantId: claim.tenantId, runId: claim.runId, pickedAt, endedAt: now() })
}
