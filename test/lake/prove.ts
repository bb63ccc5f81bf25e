import { result as tell } from '../../bench/result.ts'
import { proveHistories } from './histories.ts'
import { proveKills } from './kills.ts'
import { proveSchemaChanges } from './schema-changes.ts'

// npm run prove:lake: loads against random histories, random changes of shape, and kills at random moments.
const histories = 250
const shapes = 50
const kills = 52

const result: typeof tell = (...figure) => {
  const isMet = tell(...figure)
  if (!isMet) process.exitCode = 1
  return isMet
}

result('lake-histories-held', await proveHistories(histories), 'histories', { op: '>=', value: 200 })
let lost = 0
for (const mode of ['evolve', 'freeze', 'discard_row', 'discard_value'] as const) {
  const tally = await proveSchemaChanges(mode, shapes)
  console.log(`${mode}: ${tally.loaded} rows loaded, ${tally.rejected} quarantined, ${tally.refused} refused as a load`)
  lost += tally.lost
}
result('lake-rows-lost-in-schema-changes', lost, 'rows', { op: '<=', value: 0 })
const killed = await proveKills(kills)
console.log(`${killed.kills} kills before the load had answered, in ${killed.rounds} loads`)
result('lake-loads-killed', killed.kills, 'loads', { op: '>=', value: 50 })
result('lake-differences-after-kills', killed.differences, 'differences', { op: '<=', value: 0 })
