import type { Connection } from '../lake/connection.ts'
import { literal } from '../lake/names.ts'
import { parseSelect, visitTree } from '../lake/parse.ts'
import type { Statement } from '../lake/statement.ts'
import { inlineValues } from '../sources/inline-values.ts'

/** A checked statement as the text of a view: without parameters, and every table with its full name. */
export async function viewText(connection: Connection, statement: Statement): Promise<string> {
  const inlined = inlineValues(statement.text, statement.values, literal)
  // A view is read on connections that look names up elsewhere. Places count bytes; later ones go first.
  const { tree, text } = await parseSelect(connection, inlined)
  const parsed = text === inlined ? tree : (await parseSelect(connection, text)).tree
  const places: { at: number; prefix: string }[] = []
  visitTree(parsed, (node) => {
    if (node['type'] !== 'BASE_TABLE' || node['catalog_name']) return
    const schema = String(node['schema_name'] ?? '').toLowerCase()
    const name = String(node['table_name']).toLowerCase()
    if (schema === '' && statement.seen.commonTables.has(name)) return
    if (schema === 'lake') return
    const prefix = schema === '' ? `lake.${statement.known.has(`main.${name}`) ? 'main' : 'raw'}.` : 'lake.'
    places.push({ at: Number(node['query_location'] ?? 0), prefix })
  })
  let bytes = Buffer.from(text)
  for (const { at, prefix } of places.sort((a, b) => b.at - a.at))
    bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(prefix), bytes.subarray(at)])
  return bytes.toString()
}
