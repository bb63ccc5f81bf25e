import { sql } from 'drizzle-orm'
import { type GraphQLSchema, isRequiredArgument } from 'graphql'
import type { App } from '../../control-plane/app.ts'
import { type Db, rowsOf } from '../../shared/db/db.ts'
import { accessOf, isOpenFor } from './access.ts'
import { askGraphql, type Question, withoutRequestId } from './ask.ts'
import { inTurns } from './attempt.ts'
import { tenantTables } from './changes.ts'
import type { Estate, House } from './estate.ts'
import { tally, type Tally } from './tally.ts'
import { documentOf, targetsOf } from './targets.ts'

const hands = 16

/** What each tenant is answered while nobody else asks, by tenant and document. */
export type Alone = ReadonlyMap<string, string>

/** Asks one app everything that a tenant can read of itself, one question after the other. */
export async function answersAlone(schema: GraphQLSchema, { a, b }: Estate, app: App): Promise<Alone> {
  const alone = new Map<string, string>()
  for (const house of [a, b])
    for (const question of questionsFor(schema, house))
      alone.set(keyOf(house, question), still((await askGraphql(app, house.admin, question)).text))
  return alone
}

const questionsFor = (schema: GraphQLSchema, house: House): Question[] =>
  targetsOf(schema, () => false)
    .filter(({ operation, edges }) => operation === 'query' && edges.length <= 2)
    .filter(({ edges }) => !edges.some(({ field }) => field.args.some(isRequiredArgument)))
    .filter((target) => isOpenFor(accessOf(target), house.admin))
    .map((target) => documentOf(target, [], 2))

const keyOf = (house: House, question: Question): string => `${house.id} ${question.document}`

/**
 * Two tenants ask one app at once, `requests` times each, everything that they can read of themselves, and each answer is
 * what the same question got while nobody else asked. Between the reads both write, and afterwards no row of one holds a
 * word of the other.
 */
export async function proveInterleaved(
  schema: GraphQLSchema,
  estate: Estate,
  on: { name: string; app: App; db: Db; alone?: Alone },
  requests: number,
): Promise<Tally> {
  const found = tally()
  const { a, b } = estate
  const questions = questionsFor(schema, a)
  const alone = on.alone ?? (await answersAlone(schema, estate, on.app))
  const reads = Array.from({ length: requests }, (_, index) =>
    [a, b].map((house) => async (): Promise<void> => {
      const other = house === a ? b : a
      if (index % 20 === 19) return write(on.app, house, other)
      const question = questions[index % questions.length]
      if (!question) return
      const { text } = await askGraphql(on.app, house.admin, question)
      const where = `${on.name} interleaved ${question.document.slice(0, 60)} of ${house === a ? 'A' : 'B'}`
      found.check(!text.includes(other.mark), `${where} shows the other`, () => text)
      // The log grows by what both write meanwhile.
      if (question.document.includes('{ audit')) return
      const expected = alone.get(keyOf(house, question)) ?? ''
      found.check(still(text) === expected, `${where} is not what it is alone`, () =>
        differenceOf(still(text), expected),
      )
    }),
  )
  await inTurns(reads.flat(), hands)
  for (const [house, other] of [
    [a, b],
    [b, a],
  ] as const) {
    const crossed = await tablesWith(on.db, house.id, other.mark)
    found.check(crossed.length === 0, `${on.name}: rows of one tenant hold words of the other in ${crossed.join(', ')}`)
  }
  return found

  async function write(app: App, house: House, other: House): Promise<void> {
    const input = {
      name: `${house.mark}_env1`,
      variables: { word: `${house.mark}_value` },
      credentials: { other: `${house.mark}_credential_1` },
    }
    const { text } = await askGraphql(app, house.admin, {
      document:
        'mutation ($input: SaveEnvironmentInput!) { saveEnvironment(input: $input) { environment { name variables } errors { code } } }',
      variables: { input },
    })
    const isOwn = text.includes(`"word":"${house.mark}_value"`) && !text.includes(other.mark)
    found.check(isOwn, `${on.name} interleaved write`, () => text)
  }
}

// Moments, what counts up while others ask, and who was seen within the last half minute.
const moving = [
  'version',
  'seq',
  'rows',
  'hash',
  'prevHash',
  'used',
  'remaining',
  'percent',
  'count',
  'isLive',
  'lastSeenAt',
]
const still = (text: string): string =>
  withoutRequestId(text)
    .replaceAll(/"\d{4}-\d\d-\d\dT[\d:.]+Z"/g, '"<moment>"')
    .replaceAll(
      new RegExp(`"(\\w*[sS]econds|lastUsedAt|${moving.join('|')})":("[^"]*"|[\\d.]+|null|true|false)`, 'g'),
      '"$1":<moves>',
    )

function differenceOf(one: string, other: string): string {
  let at = 0
  while (at < one.length && one[at] === other[at]) at++
  return `…${one.slice(Math.max(0, at - 60), at + 160)} | …${other.slice(Math.max(0, at - 60), at + 160)}`
}

async function tablesWith(db: Db, tenantId: string, word: string): Promise<string[]> {
  const parts = (await tenantTables(db)).map(
    ({ name, column }) =>
      `select '${name}' as name where exists (select from app.${name} t where ${column} = '${tenantId}' and t::text like '%${word}%')`,
  )
  return (await rowsOf<{ name: string }>(db, sql.raw(parts.join(' union all ')))).map(({ name }) => name)
}
