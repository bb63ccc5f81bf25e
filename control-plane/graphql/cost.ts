import {
  type FieldNode,
  type FragmentDefinitionNode,
  getNamedType,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  isAbstractType,
  isCompositeType,
  isListType,
  isNonNullType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql'
import { fieldsOf } from './limits.ts'
import { pageSizes } from './page.ts'

/** What the answer to one request may cost: its fields, those in a page as often as the page has items. */
export const costMax = 10_000
// What a list that is not read by pages is taken for: steps of a run, roles of a person.
const itemsOfList = 5
/** A mutation's own part: a transaction with its audit row. */
const costOfMutation = 100

/** Points that a request takes from the rate limits: 1 for each 100 of its cost, and at least 1. */
export const pointsOf = (cost: number): number => Math.max(1, Math.ceil(cost / 100))

/**
 * What an operation would cost, from its document, its variables and the schema alone. Introspection costs 1 a field:
 * other limits bound it. The document must be within the limits and valid.
 */
export function costOf(
  schema: GraphQLSchema,
  operation: OperationDefinitionNode,
  fragments: ReadonlyMap<string, FragmentDefinitionNode>,
  variables: Readonly<Record<string, unknown>>,
): number {
  const defaults = new Map(
    (operation.variableDefinitions ?? []).map(({ variable, defaultValue }) => [
      variable.name.value,
      defaultValue?.kind === Kind.INT ? Number(defaultValue.value) : undefined,
    ]),
  )
  const pageSize = (field: FieldNode): number => {
    const first = field.arguments?.find(({ name }) => name.value === 'first')?.value
    if (first?.kind === Kind.INT) return within(Number(first.value))
    if (first?.kind !== Kind.VARIABLE) return pageSizes.default
    const name = first.name.value
    const given = Object.hasOwn(variables, name) ? variables[name] : defaults.get(name)
    return within(typeof given === 'number' ? given : pageSizes.default)
  }
  const costOfSets = (
    sets: readonly SelectionSetNode[],
    parent: GraphQLNamedType | undefined,
    items?: number,
  ): number => {
    let cost = 0
    for (const fields of fieldsOf(sets, fragments).values()) {
      const [node] = fields
      if (!node) continue
      const field = fieldOf(schema, parent, node.name.value)
      const type = field && getNamedType(field.type)
      const below = fields.flatMap(({ selectionSet }) => selectionSet ?? [])
      const isPage = field?.args.some(({ name }) => name === 'first') ?? false
      const inner = costOfSets(below, type, isPage ? pageSize(node) : undefined)
      const isOfPage = items !== undefined && pageItems.includes(node.name.value)
      const times = isOfPage ? items : field && isObjectList(field) ? itemsOfList : 1
      cost += 1 + times * inner
    }
    return cost
  }
  const root = schema.getRootType(operation.operation) ?? undefined
  const own = operation.operation === 'mutation' ? costOfMutation * operation.selectionSet.selections.length : 0
  return own + costOfSets([operation.selectionSet], root)
}

const pageItems = ['nodes', 'edges']
const within = (first: number): number => Math.min(Math.max(1, first), pageSizes.max)

function fieldOf(
  schema: GraphQLSchema,
  parent: GraphQLNamedType | undefined,
  name: string,
): GraphQLField<unknown, unknown> | undefined {
  if (parent === undefined || parent.name.startsWith('__')) return undefined
  // Types behind an interface agree on what a field of one name is.
  const types = isAbstractType(parent) ? schema.getPossibleTypes(parent) : [parent]
  for (const type of types) {
    const field = isObjectType(type) ? type.getFields()[name] : undefined
    if (field) return field
  }
  return undefined
}

function isObjectList(field: GraphQLField<unknown, unknown>): boolean {
  const type = isNonNullType(field.type) ? field.type.ofType : field.type
  return isListType(type) && isCompositeType(getNamedType(type))
}
