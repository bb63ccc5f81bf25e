import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { leave } from '../support/keep.ts'
import { onboard, openTenant, spawnHouse } from '../support/world.ts'

const pipeline = `
pipeline_id: long
steps:
  - step_id: work
    ps_type: sql.transform
    query: "SELECT count(*) AS n FROM range(30000) a, range(20000) b WHERE hash(a.range, b.range) % 7 = 0"
    destination: { table: worked, mode: append }
`

test('Ctrl-C lets a running step end, and the process exits 0', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'interrupt-'))
  let house = await spawnHouse(dataDir)
  try {
    const tenant = await onboard(house, 'patient')
    await tenant.save('test/long/work', pipeline)
    const runId = await tenant.start('test/long/work')
    await tenant.event(runId, 'step.started', 'work')
    // As a terminal does it: the signal goes to the whole group, the tenants' processes included.
    process.kill(-(house.process.pid ?? 0), 'SIGINT')
    expect(await house.ended).toBe(0)
    house = await spawnHouse(dataDir)
    const after = openTenant(house, 'patient', tenant.token)
    const run = await after.ended(runId)
    expect(run).toMatchObject({ state: 'SUCCEEDED', steps: [{ attempt: 1 }] })
    expect(await after.rows('SELECT count(*) AS loads FROM worked')).toEqual([{ loads: 1 }])
  } finally {
    await house.kill()
    await leave(dataDir)
  }
})
