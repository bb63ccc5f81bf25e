import type { GraphQLSchema } from 'graphql'
import { accessOf, isOpenFor } from './access.ts'
import { type Answer, askGraphql, askPath, type Caller, withoutRequestId } from './ask.ts'
import { changedIn, stateOf } from './changes.ts'
import type { Estate } from './estate.ts'
import { tally, type Tally } from './tally.ts'
import { documentOf, type Place, placesOf, type Target, targetsOf, type Values } from './targets.ts'
import { type Kind, kindOf, likeness, type Stock } from './values.ts'

// Fields that answer alike whatever there is; each has a test of its own for when it is told the right thing.
const silent: Record<string, string> = {
  'Mutation.login input.tenantId': 'nothing but the right password is told from anything else',
  'Mutation.requestPasswordReset input.tenantId': 'a mail is sent or not, and the answer is the same',
  'Subscription.tenantEvents after': 'a place among the events of the tenant, of which none is looked up',
  'Query.planRun input.idempotencyKey': 'a plan starts nothing that could be started twice',
}
// What a tenant is told of those who knock at its door.
const toldTo: Record<string, readonly string[]> = {
  'Mutation.login': ['audit_denial', 'audit_event', 'audit_head'],
  'Mutation.requestPasswordReset': ['account_link', 'outbox', 'audit_event', 'audit_head'],
}

/** A value to try, or several at once: where, and what it finds. */
type Probe = { name: string; parts: { place: Place; kind: Kind }[] }

/**
 * Asks every field of the API for what is B's, in the name of everybody who is not B, at every place that takes a value.
 * Each time the same is asked for what nobody has: the two answers are the same bytes but for the request's number, and
 * none holds anything of B. Nothing of B changes. A place that finds something must tell A's own from what is not there,
 * so that no case holds for want of a hit. `only` names fields, as `Query.run`; default: all.
 */
export async function proveRequests(
  schema: GraphQLSchema,
  estate: Estate,
  stock: Stock,
  only?: readonly string[],
): Promise<Tally> {
  const found = tally()
  // Changes come last: by some of them A takes words of B for its own.
  const targets = targetsOf(schema, (root) => !rootsOfTenants(schema, estate).has(root)).toSorted(
    (one, other) => Number(one.operation === 'mutation') - Number(other.operation === 'mutation'),
  )
  for (const target of targets) {
    if (only && !only.includes(target.name)) continue
    const access = accessOf(target)
    for (const probe of probesOf(target)) {
      const here = `${target.name} ${probe.name}`
      const isFinding = probe.parts.every(({ kind }) => kind.finds !== 'text')
      const canName = probe.parts.some(({ kind }) => kind.finds === 'tenant')
      const kept = new Map<string, string>()
      const foreign = await Promise.all(probe.parts.map(({ kind }) => stock.foreign(kind, target)))
      const missing = foreign.map(likeness)
      // What is refused uses nothing up; a free text may be accepted.
      const ask = (caller: Caller, values: readonly string[], made = isFinding ? kept : new Map()): Promise<Asked> =>
        askFor(estate, stock, target, probe, caller, values, made)
      let before = await stateOf(estate.plane.ports.db, estate.b.id)
      const askers = isFinding ? [...estate.callers, ...estate.readers] : estate.callers.filter(isExtreme)
      for (const caller of askers) {
        const isReader = estate.readers.includes(caller)
        if (isReader) {
          // What B's own rows say of the readers of the platform is the log of their visits, and they alone write it.
          await noChange(caller.name)
        }
        const one = await ask(caller, foreign)
        const other = await ask(caller, missing)
        if (one.isDone) for (const value of foreign) stock.use(value)
        const who = `${here} as ${caller.name}`
        const secrets = [...estate.b.secrets, ...estate.a.secrets].filter((secret) => one.answer.text.includes(secret))
        found.check(secrets.length === 0, `${who} shows a secret`, () => one.answer.text)
        if (caller.role === undefined && access.isPublic) {
          // Who has nothing to show may knock; what is shown and no good is refused before the door.
          const isRefused = caller.token === undefined || [one, other].every(({ answer }) => answer.status === 401)
          found.check(isRefused, `${who} is let in`, () => one.answer.text)
        } else if (caller.role === undefined) {
          const isRefused = [one, other].every(
            ({ answer }) => answer.status === 401 && answer.text.includes('UNAUTHENTICATED'),
          )
          found.check(isRefused, `${who} is let in`, () => one.answer.text)
        } else if (!isOpenFor(access, caller)) {
          const isRefused = [one, other].every(({ answer }) => answer.text.includes('"FORBIDDEN"'))
          found.check(isRefused, `${who} is not FORBIDDEN`, () => one.answer.text)
        }
        // A reader of the platform sees what is of all tenants, and whose it names.
        if (isReader && isOpenFor(access, caller) && (canName || !isOpenFor(access, estate.a.admin))) {
          before = await stateOf(estate.plane.ports.db, estate.b.id)
          continue
        }
        const marks = stock.marksOfB.filter((mark) => one.bare.includes(mark))
        found.check(marks.length === 0, `${who} shows what is B's (${marks[0]})`, () => one.answer.text)
        const isSame = one.strict === other.strict || (one.isDone && other.isDone && one.loose === other.loose)
        found.check(isSame, `${who} tells B's from nobody's`, () => differenceOf(one.loose, other.loose))
      }
      await noChange('everybody')
      if (isFinding && !(here in silent)) await mustBite(here, target, probe, ask)

      async function noChange(who: string): Promise<void> {
        const after = await stateOf(estate.plane.ports.db, estate.b.id)
        const changed = changedIn(before, after).filter((table) => !toldTo[target.name]?.includes(table))
        found.check(changed.length === 0, `${here} as ${who} changes B's ${changed.join(', ')}`)
        before = after
      }
    }
  }
  return found

  // Where A's own looks like nobody's as well, the case above proves nothing.
  async function mustBite(
    here: string,
    target: Target,
    probe: Probe,
    ask: (caller: Caller, values: readonly string[], made: Map<string, string>) => Promise<Asked>,
  ): Promise<void> {
    const caller = isOpenFor(accessOf(target), estate.a.admin) ? estate.a.admin : estate.platform
    const values: string[] = []
    for (const { kind } of probe.parts) values.push(await stock.own(kind, target, caller))
    const fresh = new Map<string, string>()
    const own = await ask(caller, values, fresh)
    const none = await ask(caller, values.map(likeness), fresh)
    found.check(made(own.strict) !== made(none.strict), `${here}: A's own looks like nobody's`, () => own.answer.text)
  }
}

/** Root fields that an administrator of a tenant may ask. */
export const rootsOfTenants = (schema: GraphQLSchema, { a }: Estate): Set<string> =>
  new Set(
    targetsOf(schema, () => false)
      .filter((target) => target.edges.length === 1 && isOpenFor(accessOf(target), a.admin))
      .map(({ edges: [root] }) => root?.field.name ?? ''),
  )

const isExtreme = ({ role }: Caller): boolean => role === 'TENANT_ADMIN' || role === 'DATA_ANALYST'

function probesOf(target: Target): Probe[] {
  const parts = placesOf(target).flatMap((place) => {
    const kind = kindOf(place)
    return kind ? [{ place, kind }] : []
  })
  const finding = parts.filter(({ kind }) => kind.finds !== 'text' && kind.finds !== 'cursor')
  const single = parts.map((part) => ({ name: part.place.at.join('.'), parts: [part] }))
  return finding.length > 1 ? [...single, { name: 'all together', parts: finding }] : single
}

type Asked = {
  answer: Answer
  /** Its bytes without the number of the request and without the words of the question. */
  strict: string
  /** Without what every change counts up or makes anew, too. */
  loose: string
  bare: string
  isDone: boolean
}

async function askFor(
  estate: Estate,
  stock: Stock,
  target: Target,
  probe: Probe,
  caller: Caller,
  values: readonly string[],
  kept: Map<string, string>,
): Promise<Asked> {
  const maker = estate.callers.includes(caller) ? estate.a.admin : caller
  const base = await stock.base(
    target,
    maker,
    kept,
    probe.parts.map(({ place }) => place),
  )
  probe.parts.forEach(({ place, kind }, index) => {
    const value = values[index] ?? ''
    put(base, base.length - 1, place, kind.wrap ? kind.wrap(value) : value)
  })
  const { document, variables } = documentOf(target, base, 2)
  const answer = await askGraphql(estate.app, caller, { document, variables })
  const bare = [...stringsIn(variables), ...values]
    .toSorted((one, other) => other.length - one.length)
    .reduce((text, word) => text.replaceAll(JSON.stringify(word).slice(1, -1), '<asked>'), answer.text)
  const strict = `${answer.status} ${withoutRequestId(bare)}`
  const isDone = target.operation === 'mutation' && strict.includes('"errors":[]')
  return { answer, bare, strict, loose: counted(strict), isDone }
}

// Sets a value at its place, whose surroundings are there; of a list in the first item.
function put(values: Values[], index: number, { at }: Place, value: unknown): void {
  let level: unknown = values[index]
  for (const name of at.slice(0, -1)) level = itemOf(isValues(level) ? level[name] : undefined)
  const last = at.at(-1) ?? ''
  if (!isValues(level)) throw new Error(`no way to ${at.join('.')}`)
  level[last] = Array.isArray(level[last]) ? [value] : value
}

const itemOf = (value: unknown): unknown => (Array.isArray(value) ? value[0] : value)
const isValues = (value: unknown): value is Values => typeof value === 'object' && value !== null

/** The words of a question that an answer may repeat. */
function stringsIn(value: unknown): string[] {
  if (typeof value === 'string') return value.length >= 5 ? [value] : []
  return isValues(value) ? Object.values(value).flatMap(stringsIn) : []
}

// Two successful changes differ in what they made …
const made = (text: string): string =>
  text
    .replaceAll(/whsec_[\w+/=]+/g, '<secret>')
    .replaceAll(/\b[a-z]{3}_[0-9a-zA-Z_-]{16,}(\.[\w-]+)?/g, '<id>')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<moment>')
    .replaceAll(/\b[0-9a-f]{64}\b/g, '<hash>')
    .replaceAll(/\bnq{3,}[0-9a-z]+/g, '<word>')

// … and in what they count up.
const counted = (text: string): string =>
  made(text).replaceAll(/"(\w*[vV]ersion|\w*Ms|seq|used|percent)":"?\d+"?/g, '"$1":<number>')

function differenceOf(one: string, other: string): string {
  let at = 0
  while (at < one.length && one[at] === other[at]) at++
  return `…${one.slice(Math.max(0, at - 60), at + 160)} | …${other.slice(Math.max(0, at - 60), at + 160)}`
}

const holdsAny = (text: string, words: readonly string[]): boolean => words.some((word) => text.includes(word))

/** The doors beside GraphQL, and the headers that every door reads. */
export async function proveDoors(estate: Estate, stock: Stock): Promise<Tally> {
  const found = tally()
  const nobody = likeness(estate.b.id)
  const compare = (who: string, one: Answer, other: Answer, words: readonly string[]): void => {
    const bare = (text: string): string =>
      words.reduce((rest, word) => rest.replaceAll(word, '<asked>'), withoutRequestId(text))
    const isSame = one.status === other.status && bare(one.text) === bare(other.text)
    found.check(isSame, `${who} tells B's from nobody's`, () => `${one.text} | ${other.text}`)
    const marks = stock.marksOfB.filter((mark) => bare(one.text).includes(mark))
    found.check(marks.length === 0, `${who} shows what is B's`, () => one.text)
  }
  // A key that the walk over all inputs has not used up for A.
  const asked = {
    document: 'mutation { createApiKey(input: { name: "asked twice" }) { token apiKey { id } errors { code } } }',
    headers: { 'idempotency-key': `${estate.b.mark}_door` },
  }
  const kept = await askGraphql(estate.app, estate.b.admin, asked)
  const tokens = (text: string): string[] =>
    [...text.matchAll(/"(?:token|id)":"([^"]+)"/g)].flatMap(([, value]) => value ?? [])
  found.check(tokens(kept.text).length === 2, 'B gets a key under an idempotency-key', () => kept.text)
  const before = await stateOf(estate.plane.ports.db, estate.b.id)
  for (const caller of estate.callers) {
    const header = (id: string): Promise<Answer> =>
      askGraphql(estate.app, caller, { document: '{ viewer { tenantId } }', headers: { 'x-tenant-id': id } })
    compare(`the header x-tenant-id as ${caller.name}`, await header(estate.b.id), await header(nobody), [
      estate.b.id,
      nobody,
    ])
    const log = (id: string): Promise<Answer> => askPath(estate.app, caller, `/v1/audit.ndjson?tenantId=${id}`)
    for (const path of ['/api/v1/tenants/<id>/credentials', '/api/v1/admin/workers/tenant/<id>/status']) {
      const rest = (id: string): Promise<Answer> => askPath(estate.app, caller, path.replace('<id>', id))
      compare(`${path} as ${caller.name}`, await rest(estate.b.id), await rest(nobody), [estate.b.id, nobody])
    }
    compare(`/v1/audit.ndjson as ${caller.name}`, await log(estate.b.id), await log(nobody), [estate.b.id, nobody])
  }
  // The very request of B under its key, whose kept answer shows a new key whole.
  const again = await askGraphql(estate.app, estate.a.admin, asked)
  found.check(
    again.text.includes('"errors":[]') && !holdsAny(again.text, [...stock.marksOfB, ...tokens(kept.text)]),
    `the header idempotency-key gives A what is B's`,
    () => again.text,
  )
  const changed = changedIn(before, await stateOf(estate.plane.ports.db, estate.b.id))
  found.check(changed.length === 0, `other doors change B's ${changed.join(', ')}`)
  return found
}
