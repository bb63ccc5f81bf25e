import { type GraphQLSchema, getNamedType, isCompositeType } from 'graphql'
import { accessOf, isOpenFor } from './access.ts'
import { askGraphql } from './ask.ts'
import type { Estate } from './estate.ts'
import { rootsOfTenants } from './requests.ts'
import { tally, type Tally } from './tally.ts'
import { documentOf, reachedBy, targetsOf } from './targets.ts'
import type { Stock } from './values.ts'

// Where the estate has nothing to reach, each with the reason.
const empty: Record<string, string> = {
  'AuditRetention.checkpoint': 'a log begins at one only once it was cut',
  'AuditSweep.next': 'there are fewer tenants than one page holds',
  'PlanRunPayload.errors': 'nothing is wrong with the plan',
}

/**
 * Goes every way through the API on which an object leads to another, as each role of A: what is reached holds nothing
 * of B and no secret, and a rule that stands anywhere on the way is obeyed. Where not even the administrator or the
 * platform reaches anything the case would prove nothing, and fails.
 */
export async function proveNesting(
  schema: GraphQLSchema,
  estate: Estate,
  stock: Stock,
  only?: readonly string[],
): Promise<Tally> {
  const found = tally()
  const roots = rootsOfTenants(schema, estate)
  const secrets = [...estate.a.secrets, ...estate.b.secrets]
  for (const target of targetsOf(schema, (root) => !roots.has(root))) {
    const last = target.edges.at(-1)
    if (target.operation !== 'query' || !last || !isCompositeType(getNamedType(last.field.type))) continue
    if (only && !only.includes(target.name)) continue
    const access = accessOf(target)
    let isReached = false
    for (const caller of [...estate.callers, estate.platform]) {
      const values = await stock.base(target, estate.a.admin, new Map(), [])
      const answer = await askGraphql(estate.app, caller, documentOf(target, values, 1))
      const who = `${target.name} as ${caller.name}`
      const shown = [...secrets, ...(caller === estate.platform ? [] : stock.marksOfB)].filter((mark) =>
        answer.text.includes(mark),
      )
      found.check(shown.length === 0, `${who} shows ${shown[0]}`, () => answer.text)
      const reached = reachedBy(target, answer.data)
      isReached ||= reached.length > 0
      if (caller.role === undefined)
        found.check(answer.status === 401 && reached.length === 0, `${who} is let in`, () => answer.text)
      else if (!isOpenFor(access, caller))
        found.check(reached.length === 0, `${who} is let past a rule`, () => answer.text)
    }
    found.check(isReached || target.name in empty, `nothing is reached at ${target.name}`)
  }
  return found
}
