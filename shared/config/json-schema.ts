/** A JSON Schema (draft 2020-12) as the generator writes it: no references, no circles. */
export type JsonSchema = { readonly [keyword: string]: unknown }

/** The keys that a schema knows at a path, over all forms of a union. */
export function keysAt(schema: JsonSchema, path: readonly PropertyKey[]): string[] {
  let nodes: unknown[] = forms(schema)
  for (const key of path) {
    const next = nodes.flatMap((node) => {
      if (!isObject(node)) return []
      const properties = isObject(node['properties']) ? node['properties'] : {}
      return typeof key === 'number' ? [node['items']] : [properties[String(key)] ?? node['additionalProperties']]
    })
    nodes = next.flatMap(forms)
  }
  return nodes.flatMap((node) =>
    isObject(node) && isObject(node['properties']) ? Object.keys(node['properties']) : [],
  )
}

function forms(node: unknown): unknown[] {
  if (!isObject(node)) return []
  return [node, ...['anyOf', 'oneOf', 'allOf'].flatMap((keyword) => listOf(node[keyword])).flatMap(forms)]
}

/** True for a schema object, or any other plain group of values. */
export const isObject = (node: unknown): node is JsonSchema =>
  typeof node === 'object' && node !== null && !Array.isArray(node)

/** The items of a list; nothing for what is none. */
export const listOf = (node: unknown): unknown[] => (Array.isArray(node) ? node : [])
