import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { result } from '../../../bench/result.ts'
import { systemClock } from '../../../shared/clock.ts'
import { AppError } from '../../../shared/errors.ts'
import { openPorts } from '../../../standalone/ports.ts'
import { onboard, openTenant, spawnHouse, type SpawnedHouse } from '../../support/world.ts'
import { brokenAtRest, brokenNow } from '../simulator/invariants.ts'
import { random } from '../simulator/random.ts'
import { brokenEnds } from './ends.ts'
import { brokenLakes, type Landed } from './lakes.ts'
import { pipelinePaths, pipelines } from './pipelines.ts'

const tenantIds = ['north', 'south', 'east']
const unfinishedMost = 8
const quietMs = 120_000

/**
 * The embedded mode, killed as a whole again and again and started over the same folder, while runs are asked for through
 * its API. True when every promise was kept.
 */
export async function proveEmbedded(options: { seed: number; runs: number }): Promise<boolean> {
  const dataDir = await mkdtemp(join(tmpdir(), 'chaos-'))
  const rng = random(options.seed + 2)
  const beganAt = performance.now()
  let house = await spawnHouse(dataDir)
  try {
    const tokens = new Map<string, string>()
    for (const id of tenantIds) {
      const tenant = await onboard(house, id)
      tokens.set(id, tenant.token)
      for (const [path, yaml] of Object.entries(pipelines)) await tenant.save(path, yaml)
    }
    const asked: Landed[] = []
    let kills = 0
    const calm = new AbortController()
    const halfway = Promise.withResolvers<void>()
    const killer = random(options.seed + 3)
    const killing = (async () => {
      while (!calm.signal.aborted) {
        const pause = systemClock.sleep(killer.whole(1_500, 5_000), calm.signal)
        // Few runs could be over before the first kill: it comes when half of them are asked for.
        await (kills === 0 ? Promise.race([pause, halfway.promise]) : pause)
        if (calm.signal.aborted) return
        const doomed = house
        house = await dying(doomed, dataDir)
        kills++
      }
    })()
    const through = async <T>(work: (now: SpawnedHouse) => Promise<T>): Promise<T> => {
      for (let tries = 1; ; tries++) {
        try {
          return await work(house)
        } catch (error) {
          if (tries > 3_000 || (error instanceof AppError && error.retry === 'never')) throw error
          await systemClock.sleep(100)
        }
      }
    }
    const open = new Map<string, string>()
    const settle = async (most: number, until: number): Promise<boolean> => {
      for (; performance.now() < until; await systemClock.sleep(200)) {
        for (const [runId, tenantId] of open) {
          const seen = await through((now) => openTenant(now, tenantId, tokens.get(tenantId) ?? '').see(runId))
          if (!['QUEUED', 'RUNNING', 'CANCELLING'].includes(seen.state)) open.delete(runId)
        }
        if (open.size <= most) return true
      }
      return false
    }
    for (let n = 0; n < options.runs; n++) {
      const tenantId = rng.pick(tenantIds)
      const path = rng.pick(pipelinePaths)
      // As a client does: with a key, until it is told.
      const runId = await through((now) =>
        openTenant(now, tenantId, tokens.get(tenantId) ?? '').start(path, {}, `chaos-${options.seed}-${n}`),
      )
      asked.push({ tenantId, runId, path })
      open.set(runId, tenantId)
      if (n === Math.floor(options.runs / 2)) halfway.resolve()
      await settle(unfinishedMost, Number.POSITIVE_INFINITY)
    }
    calm.abort()
    await killing
    const isOver = await settle(0, performance.now() + quietMs)
    house.process.kill('SIGTERM')
    await house.ended
    const { ports, close } = await openPorts(dataDir, 'silent')
    const broken = [
      ...(isOver ? [] : [`${open.size} runs have not ended`]),
      ...(await brokenNow(ports.db)),
      ...(await brokenAtRest(ports.db)),
      ...(await brokenEnds(ports.db, asked)),
    ]
    await close()
    broken.push(...(await brokenLakes(dataDir, asked)))
    for (const line of broken.slice(0, 40)) console.log(`  ${line}`)
    result('chaos.embedded.seconds', (performance.now() - beganAt) / 1000, 's')
    const isKilled = result('chaos.embedded.kills', kills, 'kills', { op: '>=', value: 1 })
    const isEnough = result('chaos.embedded.runs', asked.length, 'runs', { op: '>=', value: options.runs })
    return result('chaos.embedded.broken', broken.length, 'promises', { op: '<=', value: 0 }) && isEnough && isKilled
  } finally {
    await house.kill()
    await rm(dataDir, { recursive: true, force: true })
  }
}

async function dying(house: SpawnedHouse, dataDir: string): Promise<SpawnedHouse> {
  await house.kill()
  return spawnHouse(dataDir)
}
