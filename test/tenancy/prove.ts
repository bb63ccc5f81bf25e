import { schema } from '../../control-plane/graphql/schema.ts'
import { result } from '../../bench/result.ts'
import { inProcessHub } from '../../shared/waking/hub.ts'
import { openBackends } from './backends.ts'
import { proveConnections } from './connections.ts'
import { openEstate } from './estate.ts'
import { proveFunctions } from './functions.ts'
import { proveHints, proveStreams } from './hints.ts'
import { proveInterleaved } from './interleaved.ts'
import { proveKeys } from './keys.ts'
import { proveNesting } from './nesting.ts'
import { provePlanted } from './planted.ts'
import { proveDoors, proveRequests } from './requests.ts'
import { proveTables } from './tables.ts'
import type { Tally } from './tally.ts'
import { openStock } from './values.ts'

// npm run prove:isolation: no byte of a tenant in an answer to another. With --planted: leaks that are put in are found.
const casesMin = 1000
const requestsPerTenant = 1000
// Of each part; what is wrong at one place is often wrong at all.
const shownMax = 20

const started = performance.now()
await using estate = await openEstate()
await using databases = await openBackends(estate)
for (const left of databases.left) console.log(`left out: ${left}`)
const stock = await openStock(schema, estate)
const hub = inProcessHub()

if (process.argv.includes('--planted')) {
  const { found, missed } = await provePlanted(schema, estate, stock, databases.backends)
  for (const name of missed) console.error(`NOT FOUND: ${name}`)
  show('planted-leaks-missed', missed.length, 'leaks', { op: '<=', value: 0 })
  show('planted-leaks-found', found, 'leaks', { op: '>=', value: 10 })
} else {
  let passed = 0
  const failures: string[] = []
  const part = async (name: string, work: Promise<Tally>): Promise<void> => {
    const { passed: held, failures: broken } = await work
    passed += held
    failures.push(...broken)
    for (const failure of broken.slice(0, shownMax)) console.error(`FAIL ${failure}`)
    show(name, broken.length, `failures-of-${held + broken.length}`, { op: '<=', value: 0 })
  }
  const { app, plane } = estate
  // What both tenants have is read before the cases make A name what is B's.
  await part('nesting', proveNesting(schema, estate, stock))
  await part(
    'interleaved',
    proveInterleaved(schema, estate, { name: 'embedded', app, db: plane.ports.db }, requestsPerTenant),
  )
  await part('hints', proveHints(estate, stock, hub))
  await part('streams', proveStreams(schema, estate, stock))
  for (const backend of databases.backends) {
    await part(`tables.${backend.name}`, proveTables(backend, estate))
    await part(`keys.${backend.name}`, proveKeys(backend, estate))
    await part(`functions.${backend.name}`, proveFunctions(backend, estate))
    await part(`connections.${backend.name}`, proveConnections(backend, estate))
    if (backend.name !== 'embedded') {
      const { name, db, superuser } = backend
      const other = plane.appWith({}, { db })
      await part(
        `interleaved.${name}`,
        proveInterleaved(schema, estate, { name, app: other, db: superuser }, requestsPerTenant / 10),
      )
    }
  }
  await part('requests', proveRequests(schema, estate, stock))
  await part('doors', proveDoors(estate, stock))
  show('cases-passed', passed, 'cases', { op: '>=', value: casesMin })
  console.log(`${passed} passed, ${failures.length} failed`)
}
console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`)

function show(name: string, value: number, unit: string, goal: { op: '<=' | '>='; value: number }): void {
  if (!result(`isolation.${name}`, value, unit, goal)) process.exitCode = 1
}
