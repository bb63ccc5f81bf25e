import { execFile } from 'node:child_process'
import { availableParallelism, freemem, totalmem } from 'node:os'
import { promisify } from 'node:util'
import { workerEnv } from '../../workers/env.ts'
import { type Check, type Finding, ok, warn } from './finding.ts'

const run = promisify(execFile)
// What a tenant's process of the smallest plan may take, with Node and the engine around it.
const bytesPerTenant = 1.5 * 2 ** 30

/** The system can hold a tenant's process to its limits, and has room for as many as may run at once. */
export const processes: Check = {
  name: 'processes',
  concerns: ({ dataDir }) => dataDir !== undefined,
  async look({ variables }, signal) {
    const findings: Finding[] = []
    const isLimited = await run('prlimit', ['--core=0', '--nofile=1024', 'true'], {
      timeout: 5_000,
      signal,
      env: { PATH: variables['PATH'] ?? '' },
    }).then(
      () => true,
      () => false,
    )
    if (!isLimited)
      findings.push(
        warn(
          'prlimit is missing or refused: memory of tenants is watched once a second, and CPU and file sizes are not held.',
          'Install util-linux and let this user run prlimit.',
        ),
      )
    const capacity = workerEnv.shape.WORKER_CAPACITY.safeParse(variables['WORKER_CAPACITY'] || undefined).data ?? 4
    const shown = `${(totalmem() / 2 ** 30).toFixed(1)} GB memory, ${availableParallelism()} processors`
    if (capacity * bytesPerTenant > totalmem())
      findings.push(
        warn(
          `WORKER_CAPACITY ${capacity} may need ${(capacity * 1.5).toFixed(1)} GB, and there are ${shown}.`,
          'Lower WORKER_CAPACITY, or add memory.',
        ),
      )
    if (isLimited) findings.unshift(ok(`prlimit holds them; ${shown}, ${(freemem() / 2 ** 30).toFixed(1)} GB free.`))
    return findings
  },
}
