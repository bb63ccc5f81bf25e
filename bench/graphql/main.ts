import { onEdge } from './edge.ts'
import { guards } from './guards.ts'
import { houseOfList } from './house.ts'
import { onNode } from './node.ts'

// A list of 100 rows by the API with all of its guards, beside the same list by other servers with none of them: over HTTP
// on Node, on workerd, and within one process, where each guard is measured by itself. The first argument is the number of rounds.
const rounds = Number(process.argv[2] ?? 30)

let isMet = await guards(rounds)
const house = await houseOfList()
if ('skipped' in house) console.log(`without a server: ${house.skipped}`)
else {
  await using _ = house
  isMet = (await onNode(house, rounds)) && isMet
  isMet = (await onEdge(house, rounds)) && isMet
}
process.exitCode = isMet ? 0 : 1
