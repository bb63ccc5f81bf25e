import {
  type ASTNode,
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql'

/**
 * What one request may hold. All of it is judged before anything quadratic looks at the document. `selections` counts
 * those of all operations and fragments, unfolded; `sameName` bounds how often one name stands in one place, which is what
 * the rule of overlapping fields squares; the figures of values hold for variables and for literals alike.
 */
export const limits = {
  bodyBytes: 262_144,
  documentChars: 32_768,
  tokens: 1000,
  depth: 12,
  introspectionDepth: 16,
  introspectionLists: 2,
  aliases: 30,
  rootFields: 30,
  mutations: 10,
  selections: 1500,
  sameName: 20,
  directives: 20,
  directivesInOnePlace: 4,
  operations: 10,
  fragments: 50,
  nameChars: 100,
  listItems: 250,
  valueDepth: 24,
  values: 10_000,
} as const

// How a limit of documents is named to the caller.
const names = {
  depth: 'levels of fields',
  introspectionDepth: 'levels of introspection',
  introspectionLists: 'lists of introspection inside each other',
  aliases: 'aliases',
  rootFields: 'root fields',
  mutations: 'mutations',
  selections: 'selections, fragments unfolded',
  sameName: 'fields of one name in one place',
  directives: 'directives',
  directivesInOnePlace: 'directives in one place',
  operations: 'operations',
  fragments: 'fragments',
  nameChars: 'characters in a name',
  listItems: 'items in a list',
  valueDepth: 'levels of values',
} as const satisfies Partial<Record<keyof typeof limits, string>>

/** A refusal for size. */
export const tooLarge = (message: string): GraphQLError =>
  new GraphQLError(message, { extensions: { code: 'TOO_LARGE' } })

/**
 * The first limit that a parsed document breaks, or a circle of fragments; undefined for one that the rules of the
 * language may look at. Its work is linear in the document and in `selections`.
 */
export function faultOfSize(document: DocumentNode): GraphQLError | undefined {
  try {
    checkNodes(document)
    checkFields(document)
    return undefined
  } catch (error) {
    if (error instanceof GraphQLError) return error
    throw error
  }
}

const refuse = (limit: keyof typeof names, is: number): void => {
  if (is > limits[limit]) throw tooLarge(`This document has ${is} ${names[limit]}; ${limits[limit]} is the limit.`)
}

// Every node once, with a stack of its own: literals may be nested as deep as there are tokens.
function checkNodes(document: DocumentNode): void {
  const count = { directives: 0, operations: 0, fragments: 0 }
  const stack: [node: ASTNode, valueDepth: number][] = [[document, 0]]
  for (let top = stack.pop(); top; top = stack.pop()) {
    const [node, above] = top
    const isNested = node.kind === Kind.LIST || node.kind === Kind.OBJECT
    const valueDepth = above + (isNested ? 1 : 0)
    refuse('valueDepth', valueDepth)
    if (node.kind === Kind.NAME) refuse('nameChars', node.value.length)
    if (node.kind === Kind.LIST) refuse('listItems', node.values.length)
    if (node.kind === Kind.OPERATION_DEFINITION) refuse('operations', ++count.operations)
    if (node.kind === Kind.FRAGMENT_DEFINITION) refuse('fragments', ++count.fragments)
    if ('directives' in node && node.directives) {
      refuse('directivesInOnePlace', node.directives.length)
      refuse('directives', (count.directives += node.directives.length))
    }
    for (const [key, child] of Object.entries(node)) {
      if (key === 'loc') continue
      if (Array.isArray(child)) for (const one of child) stack.push([one, valueDepth])
      else if (isNode(child)) stack.push([child, valueDepth])
    }
  }
}

const isNode = (value: unknown): value is ASTNode => typeof value === 'object' && value !== null && 'kind' in value

type Weight = { selections: number; aliases: number; depth: number }
const nothing: Weight = { selections: 0, aliases: 0, depth: 0 }

function checkFields(document: DocumentNode): void {
  const fragments = new Map<string, FragmentDefinitionNode>()
  const operations: OperationDefinitionNode[] = []
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition)
    if (definition.kind === Kind.OPERATION_DEFINITION) operations.push(definition)
  }
  const weigh = weigher(fragments)
  let selections = 0
  for (const { selectionSet } of operations) {
    const weight = weigh(selectionSet)
    refuse('depth', weight.depth)
    refuse('aliases', weight.aliases)
    refuse('selections', (selections += weight.selections))
  }
  // The rules of the language look at each fragment by itself as well, also at those that nothing uses.
  for (const { selectionSet } of fragments.values())
    refuse('selections', (selections += weigh(selectionSet).selections))
  for (const { operation, selectionSet } of operations) {
    const roots = fieldsOf([selectionSet], fragments)
    refuse(operation === 'mutation' ? 'mutations' : 'rootFields', roots.size)
  }
  for (const { selectionSet } of [...operations, ...fragments.values()]) checkNames([selectionSet], fragments)
}

// Fragments are weighed once each, so that doubling ones cost nothing here. Introspection has a depth of its own.
function weigher(fragments: ReadonlyMap<string, FragmentDefinitionNode>): (set: SelectionSetNode) => Weight {
  const known = new Map<string, Weight>()
  const open = new Set<string>()
  const weighFragment = (name: string): Weight => {
    const weight = known.get(name)
    if (weight) return weight
    if (open.has(name)) throw new GraphQLError('Fragments refer to each other in a circle.')
    open.add(name)
    const set = fragments.get(name)?.selectionSet
    const made = set ? weighSet(set) : nothing
    open.delete(name)
    known.set(name, made)
    return made
  }
  const weighField = (field: FieldNode): Weight => {
    const { selections, aliases, depth } = field.selectionSet ? weighSet(field.selectionSet) : nothing
    return {
      selections,
      aliases: aliases + (field.alias ? 1 : 0),
      depth: field.name.value.startsWith('__') ? 1 : depth + 1,
    }
  }
  const weighSet = (set: SelectionSetNode): Weight => {
    const total = { ...nothing }
    for (const selection of set.selections) {
      const weight =
        selection.kind === Kind.FIELD
          ? weighField(selection)
          : selection.kind === Kind.INLINE_FRAGMENT
            ? weighSet(selection.selectionSet)
            : weighFragment(selection.name.value)
      // What spreads and holds no field is counted as well: it doubles as fields do.
      total.selections += weight.selections + 1
      total.aliases += weight.aliases
      total.depth = Math.max(total.depth, weight.depth)
    }
    return total
  }
  return weighSet
}

const introspectionLists = ['fields', 'inputFields', 'interfaces', 'possibleTypes']

// What stands in one place together, level by level. `selections` bounds how much that is.
function checkNames(
  sets: readonly SelectionSetNode[],
  fragments: ReadonlyMap<string, FragmentDefinitionNode>,
  introspection?: { depth: number; lists: number },
): void {
  for (const [name, fields] of fieldsOf(sets, fragments)) {
    refuse('sameName', fields.length)
    const below = fields.flatMap(({ selectionSet }) => selectionSet ?? [])
    if (below.length === 0) continue
    const [first] = fields
    const inside = introspection ?? (name.startsWith('__') || first?.name.value.startsWith('__') ? top : undefined)
    const isList = inside && introspectionLists.includes(first?.name.value ?? '')
    const next = inside && { depth: inside.depth + 1, lists: inside.lists + (isList ? 1 : 0) }
    if (next) {
      refuse('introspectionDepth', next.depth)
      refuse('introspectionLists', next.lists)
    }
    checkNames(below, fragments, next)
  }
}

const top = { depth: 0, lists: 0 }

/** The fields of selections that stand in one place, by the name under which they are answered, fragments unfolded. */
export function fieldsOf(
  sets: readonly SelectionSetNode[],
  fragments: ReadonlyMap<string, FragmentDefinitionNode>,
): Map<string, FieldNode[]> {
  const found = new Map<string, FieldNode[]>()
  const collect = (set: SelectionSetNode): void => {
    for (const selection of set.selections) {
      if (selection.kind === Kind.FIELD) {
        const name = selection.alias?.value ?? selection.name.value
        const same = found.get(name)
        if (same) same.push(selection)
        else found.set(name, [selection])
      } else if (selection.kind === Kind.INLINE_FRAGMENT) collect(selection.selectionSet)
      else {
        const fragment = fragments.get(selection.name.value)
        if (fragment) collect(fragment.selectionSet)
      }
    }
  }
  for (const set of sets) collect(set)
  return found
}
