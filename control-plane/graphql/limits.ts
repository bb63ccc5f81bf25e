import {
  type ASTVisitor,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  type SelectionSetNode,
  type ValidationContext,
} from 'graphql'
import { pageSizes } from './page.ts'

/**
 * What one document may ask for, judged before it runs. `items` is the product of the page sizes along a path, summed:
 * how many nodes an answer could hold.
 */
export const limits = { bodyBytes: 262_144, tokens: 1000, depth: 12, aliases: 30, items: 10_000 } as const

type Weight = { depth: number; aliases: number; items: number }

/**
 * Refuses documents that are too deep, have too many aliases or ask for too many items, fragments unfolded. Fields of
 * introspection count no depth: whether they are allowed at all is another rule.
 */
export function withinLimits(context: ValidationContext): ASTVisitor {
  const fragments = new Map<string, FragmentDefinitionNode>()
  for (const definition of context.getDocument().definitions)
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition)
  const weights = new Map<string, Weight>()

  const weighSet = (set: SelectionSetNode | undefined, open: readonly string[]): Weight => {
    const total: Weight = { depth: 0, aliases: 0, items: 0 }
    for (const selection of set?.selections ?? []) {
      const weight =
        selection.kind === Kind.FIELD
          ? weighField(selection, open)
          : selection.kind === Kind.INLINE_FRAGMENT
            ? weighSet(selection.selectionSet, open)
            : weighFragment(selection.name.value, open)
      total.depth = Math.max(total.depth, weight.depth)
      total.aliases += weight.aliases
      total.items += weight.items
    }
    return total
  }
  const weighField = (field: FieldNode, open: readonly string[]): Weight => {
    const below = weighSet(field.selectionSet, open)
    const isIntrospection = field.name.value.startsWith('__')
    const page = pageOf(field)
    return {
      depth: isIntrospection ? 1 : below.depth + 1,
      aliases: below.aliases + (field.alias ? 1 : 0),
      items: page === undefined ? below.items : page * (1 + below.items),
    }
  }
  // Each fragment is weighed once; a cycle is another rule's to report and weighs nothing here.
  const weighFragment = (name: string, open: readonly string[]): Weight => {
    const known = weights.get(name)
    if (known) return known
    if (open.includes(name)) return { depth: 0, aliases: 0, items: 0 }
    const weight = weighSet(fragments.get(name)?.selectionSet, [...open, name])
    weights.set(name, weight)
    return weight
  }

  return {
    OperationDefinition(node) {
      const weight = weighSet(node.selectionSet, [])
      const refuse = (what: string, is: number, max: number): void => {
        if (is > max) context.reportError(tooLarge(`This document has ${what} ${is}; ${max} is the limit.`))
      }
      refuse('a depth of', weight.depth, limits.depth)
      refuse('a number of aliases of', weight.aliases, limits.aliases)
      refuse('a possible number of items of', weight.items, limits.items)
      return false
    },
  }
}

/** A refusal of a document for its size. */
export const tooLarge = (message: string): GraphQLError =>
  new GraphQLError(message, { extensions: { code: 'TOO_LARGE' } })

// A list is what has `first` or selects the items of a page. A variable is not known yet: it counts as the largest page.
function pageOf(field: FieldNode): number | undefined {
  const first = field.arguments?.find((argument) => argument.name.value === 'first')
  if (first)
    return first.value.kind === Kind.INT
      ? Math.min(Math.max(0, Number(first.value.value)), pageSizes.max)
      : pageSizes.max
  const isPage = field.selectionSet?.selections.some(
    (selection) => selection.kind === Kind.FIELD && ['nodes', 'edges'].includes(selection.name.value),
  )
  return isPage ? pageSizes.default : undefined
}
