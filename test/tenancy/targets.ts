import {
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputField,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  isAbstractType,
  isInputObjectType,
  isInterfaceType,
  isLeafType,
  isObjectType,
  isRequiredArgument,
} from 'graphql'
import type { Loose } from '../support/control-plane.ts'

type Field = GraphQLField<unknown, unknown>

/** One field of one type. */
export type Edge = { owner: string; field: Field }

/** A field of the API and the shortest way to it from a root; the last edge is the field. */
export type Target = { operation: 'query' | 'mutation' | 'subscription'; edges: readonly Edge[]; name: string }

/** A place where a caller can put a value: `at` leads to it from the arguments of the target. */
export type Place = {
  at: readonly string[]
  /** The type that declares it and its name there, as `CancelRunInput.id` or `Query.run.id`. */
  coordinate: string
  name: string
  type: GraphQLNamedType
  description: string
}

const nameOf = ({ owner, field }: Edge): string => `${owner}.${field.name}`

/**
 * Every field that answers an object or takes arguments, wherever it stands, each with the shortest way to it: the ways
 * that a caller can go. Fields of payloads belong to their mutation. Roots that `comesLast` names are gone through only
 * where no other way leads.
 */
export function targetsOf(schema: GraphQLSchema, comesLast: (root: string) => boolean): Target[] {
  const roots = [
    ['query', schema.getQueryType()],
    ['mutation', schema.getMutationType()],
    ['subscription', schema.getSubscriptionType()],
  ] as const
  const targets: Target[] = roots.flatMap(([operation, type]) =>
    Object.values(type?.getFields() ?? {}).map((field) => {
      const edge = { owner: type?.name ?? '', field }
      return { operation, edges: [edge], name: nameOf(edge) }
    }),
  )
  const seen = new Set<string>()
  const queries = targets.filter(({ operation }) => operation === 'query')
  const queue = [
    ...queries.filter(({ edges: [root] }) => root && !comesLast(root.field.name)),
    ...queries.filter(({ edges: [root] }) => root && comesLast(root.field.name)),
  ]
  const found: Target[] = []
  // In two rounds, so that a long way for everybody is preferred to a short one for the platform.
  for (const isLast of [false, true]) {
    let layer = queue.filter(({ edges: [root] }) => root && comesLast(root.field.name) === isLast)
    while (layer.length > 0) {
      const next: Target[] = []
      for (const target of layer) {
        const type = getNamedType(target.edges.at(-1)?.field.type)
        if (!type || !isObjectType(type) || seen.has(type.name)) continue
        seen.add(type.name)
        for (const field of Object.values(type.getFields())) {
          if (isLeafType(getNamedType(field.type)) && field.args.length === 0) continue
          const edge = { owner: type.name, field }
          const deeper = { operation: 'query' as const, edges: [...target.edges, edge], name: nameOf(edge) }
          found.push(deeper)
          next.push(deeper)
        }
      }
      layer = next
    }
  }
  return [...targets, ...found]
}

/** Every place of a target's last field where a caller can put a value, those inside inputs too. */
export function placesOf({ edges }: Target): Place[] {
  const last = edges.at(-1)
  if (!last) return []
  return last.field.args.flatMap((arg) => placesIn(arg, [arg.name], nameOf(last), []))
}

function placesIn(
  input: GraphQLArgument | GraphQLInputField,
  at: string[],
  owner: string,
  open: readonly string[],
): Place[] {
  const type = getNamedType(input.type)
  if (!isInputObjectType(type))
    return [{ at, coordinate: `${owner}.${input.name}`, name: input.name, type, description: input.description ?? '' }]
  if (open.includes(type.name)) return []
  return Object.values(type.getFields()).flatMap((field) =>
    placesIn(field, [...at, field.name], type.name, [...open, type.name]),
  )
}

/** Arguments of a field by name. */
export type Values = Record<string, unknown>

/** A target's document and variables, with the arguments of each of its edges; `depth` levels of its answer are selected. */
export function documentOf(
  { operation, edges }: Target,
  values: readonly Values[],
  depth: number,
): { document: string; variables: Values } {
  const variables: Values = {}
  const declared: string[] = []
  const write = (index: number): string => {
    const edge = edges[index]
    if (!edge) return ''
    const given = Object.entries(values[index] ?? {}).flatMap(([name, value]) => {
      const arg = edge.field.args.find((one) => one.name === name)
      if (!arg) return []
      const variable = `v${index}_${name}`
      variables[variable] = value
      declared.push(`$${variable}: ${String(arg.type)}`)
      return [`${name}: $${variable}`]
    })
    const type = getNamedType(edge.field.type)
    const below = index === edges.length - 1 ? selectionOf(type, depth) : `{ ${write(index + 1)} }`
    return `${edge.field.name}${given.length > 0 ? `(${given.join(', ')})` : ''} ${below}`
  }
  const body = write(0)
  return { document: `${operation}${declared.length > 0 ? ` (${declared.join(', ')})` : ''} { ${body} }`, variables }
}

/** Everything that can be selected of a type without arguments, `depth` levels deep; nothing for a leaf. */
export function selectionOf(type: GraphQLNamedType, depth: number): string {
  if (isLeafType(type)) return ''
  if (!isObjectType(type) && !isInterfaceType(type)) return '{ __typename }'
  const fields = Object.values(type.getFields()).filter((field) => !field.args.some(isRequiredArgument))
  const parts = fields.flatMap((field) => {
    const below = getNamedType(field.type)
    if (isLeafType(below)) return [field.name]
    if (depth <= 1 && !isAbstractType(below)) return []
    return [`${field.name} ${selectionOf(below, depth - 1)}`]
  })
  return `{ __typename ${parts.join(' ')} }`
}

/** What stands in an answer at the end of a target's way: every value, through all lists. */
export function reachedBy({ edges }: Target, data: Loose): Loose[] {
  let values: Loose[] = [data]
  for (const { field } of edges)
    values = values
      .map((value) => value?.[field.name])
      .flat(3)
      .filter((value) => value !== null && value !== undefined)
  return values
}
