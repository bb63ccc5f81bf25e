import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  buildSchema,
  findSchemaChanges,
  BreakingChangeType,
  getNamedType,
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
} from 'graphql'

/** The contract that callers hold: the schema of the last release, by path from the root. */
export const releasedPath = 'schema/released.graphql'
/** Days that callers have at least, from the release that deprecates something to its removal. */
export const noticeDays = 90

/** What a caller uses by name, as `Query.run`, `Query.run(id:)` or `RunState.FAILED`: why it is deprecated, if it is, and the type behind it. */
type Member = { deprecation: string | undefined; type: string | undefined }

/**
 * What `current` takes away from callers of `released`, by name. Whatever breaks them needs a deprecation in the release
 * that names a day, `@deprecated(reason: "… remove after 2027-03-01")`, and that day, in UTC, is over. A deprecation
 * without a day is a fault too, since nothing could ever follow from it.
 */
export function contractFaults(released: GraphQLSchema, current: GraphQLSchema, today: Date): string[] {
  const members = membersOf(released)
  const faults = [...membersOf(current)].flatMap(([name, { deprecation }]) =>
    deprecation === undefined || dayOf(deprecation)
      ? []
      : [`${name} is deprecated without a day: end its reason with "remove after YYYY-MM-DD"`],
  )
  for (const { type, description } of findSchemaChanges(released, current)) {
    if (!Object.hasOwn(BreakingChangeType, type)) continue
    const name = nameIn(description)
    const promised = promisesOf(name, type, members)
    const late = promised.filter((one) => one === undefined || !isOver(one, today))
    if (promised.length > 0 && late.length === 0) continue
    const [first] = late
    const why = first
      ? `it was promised to stay until ${first}`
      : 'deprecate it first, with @deprecated(reason: "… remove after YYYY-MM-DD"), release that, and wait for the day'
    faults.push(`${name}: ${description} This breaks callers of the released API: ${why}.`)
  }
  return faults.sort()
}

/** What keeps `current` from being released: what breaks callers, and deprecations that give them less than the notice. */
export function releaseFaults(released: GraphQLSchema, current: GraphQLSchema, today: Date): string[] {
  const before = membersOf(released)
  const earliest = new Date(today.getTime() + noticeDays * 86_400_000).toISOString().slice(0, 10)
  const short = [...membersOf(current)].flatMap(([name, { deprecation }]) => {
    const day = dayOf(deprecation)
    const known = before.get(name)
    // What nobody has yet can go at any time.
    if (!known || !day || day >= earliest || day === dayOf(known.deprecation)) return []
    return [`${name} may be removed after ${day}: callers have ${noticeDays} days, until ${earliest} at least`]
  })
  return [...contractFaults(released, current, today), ...short].sort()
}

/** The released contract; the schema itself where nothing was released yet. */
export async function releasedSchema(root: string, current: GraphQLSchema): Promise<GraphQLSchema> {
  const text = await readFile(join(root, releasedPath), 'utf8').catch(() => undefined)
  return text === undefined ? current : buildSchema(text)
}

// What was promised about everything that a change takes away. With a type go the fields that answer or take it, with an
// interface or a union what it was answered by.
function promisesOf(name: string, change: string, members: ReadonlyMap<string, Member>): (string | undefined)[] {
  const own = members.get(name) ?? members.get(name.replace(/\(.*$/, ''))
  if (own) {
    const field = members.get(name.replace(/\(.*$/, ''))
    return [dayOf(own.deprecation) ?? dayOf(field?.deprecation)]
  }
  if (change !== 'TYPE_REMOVED' && change !== 'TYPE_CHANGED_KIND') return []
  return [...members.values()].filter(({ type }) => type === name).map(({ deprecation }) => dayOf(deprecation))
}

// Texts of graphql 17 name what they are about with its coordinate, and a type alone.
function nameIn(description: string): string {
  const [coordinate] = /@?\b[A-Za-z_]\w*\.\w+(\(\w+:\))?/.exec(description) ?? []
  return coordinate ?? /^(?:Directive )?(@?\w+)/.exec(description)?.[1] ?? description
}

const dayOf = (reason: string | undefined): string | undefined =>
  /remove after (\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))\b/.exec(reason ?? '')?.[1]

const isOver = (day: string, today: Date): boolean => day < today.toISOString().slice(0, 10)

function membersOf(schema: GraphQLSchema): Map<string, Member> {
  const members = new Map<string, Member>()
  const put = (name: string, deprecation: string | null | undefined, type?: string): void =>
    void members.set(name, { deprecation: deprecation ?? undefined, type })
  for (const [name, type] of Object.entries(schema.getTypeMap())) {
    if (isIntrospectionType(type)) continue
    if (isEnumType(type)) for (const value of type.getValues()) put(`${name}.${value.name}`, value.deprecationReason)
    if (isInputObjectType(type))
      for (const field of Object.values(type.getFields()))
        put(`${name}.${field.name}`, field.deprecationReason, getNamedType(field.type).name)
    if (!isObjectType(type) && !isInterfaceType(type)) continue
    for (const field of Object.values(type.getFields())) {
      put(`${name}.${field.name}`, field.deprecationReason, getNamedType(field.type).name)
      for (const arg of field.args)
        put(`${name}.${field.name}(${arg.name}:)`, arg.deprecationReason, getNamedType(arg.type).name)
    }
  }
  return members
}

if (import.meta.main) {
  const { schema } = await import('../control-plane/graphql/schema.ts')
  const released = await releasedSchema(join(import.meta.dirname, '..'), schema)
  const faults = contractFaults(released, schema, new Date())
  for (const fault of faults) console.error(fault)
  process.exitCode = faults.length > 0 ? 1 : 0
}
