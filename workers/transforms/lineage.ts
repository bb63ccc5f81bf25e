import type { Tree } from '../lake/parse.ts'
import {
  computed,
  findColumn,
  merged,
  type Origin,
  originsOf,
  type Out,
  type Relation,
  renamed,
  visibleOf,
  weigh,
} from './origins.ts'
import { listOf, lower, objectOf, same } from './tree.ts'

/**
 * Where the result of a query comes from: every table that it reads in any way, and for each column of the result those
 * whose values its own values are made of. A column that only filters, joins, groups or sorts is no origin.
 */
export type Lineage = { tables: string[]; columns: { name: string; origins: Origin[] }[] }

/** Columns of the tables of the lake by lower-case name, in order, as `schema.table`. */
export type Catalog = ReadonlyMap<string, readonly string[]>

/**
 * Reads the lineage of a parsed SELECT. `result` are the names of its columns, as the engine gives them: of a query whose
 * columns cannot be told from its text (a pivot), each column has all columns that the query computes with as origins.
 */
export function lineageOf(tree: Tree, catalog: Catalog, result: readonly string[]): Lineage {
  const reader: Reader = { catalog, tables: new Set() }
  const [statement] = listOf(tree['statements'])
  const columns = readQuery(objectOf(statement?.['node']), { common: new Map(), outer: [] }, reader)
  const isPlain = columns.length === result.length && columns.every(({ isOpen }) => !isOpen)
  const all = originsOf(columns.map((column) => column.origins).flat(), false)
  return {
    tables: [...reader.tables].sort(),
    columns: result.map((name, index) => ({
      name,
      origins: originsOf(isPlain ? (columns[index]?.origins ?? []) : all, true),
    })),
  }
}

type Reader = { catalog: Catalog; tables: Set<string> }
type Scope = { common: Map<string, Out[]>; outer: Relation[][] }

function readQuery(node: Tree, scope: Scope, reader: Reader): Out[] {
  const own = { ...scope, common: new Map(scope.common) }
  for (const { key, value } of listOf(objectOf(node['cte_map'])['map'])) {
    const common = objectOf(value)
    const columns = readQuery(objectOf(objectOf(common['query'])['node']), own, reader)
    own.common.set(lower(key), renamed(columns, common['aliases']))
  }
  if (node['type'] === 'SET_OPERATION_NODE') return readSetOperation(node, own, reader)
  if (node['type'] === 'RECURSIVE_CTE_NODE') return readRecursive(node, own, reader)
  return readSelect(node, own, reader)
}

function readSetOperation(node: Tree, scope: Scope, reader: Reader): Out[] {
  const left = readQuery(objectOf(node['left']), scope, reader)
  const right = readQuery(objectOf(node['right']), scope, reader)
  const type = String(node['setop_type'])
  if (type === 'UNION_BY_NAME') {
    const names = new Map(left.map((column) => [lower(column.name), column]))
    const added = right.filter((column) => !names.has(lower(column.name)))
    const both = left.map((column) =>
      merged(
        column,
        right.find((other) => lower(other.name) === lower(column.name)),
      ),
    )
    return [...both, ...added]
  }
  // What EXCEPT and INTERSECT give are rows of the left side.
  return type === 'UNION' ? left.map((column, index) => merged(column, right[index])) : left
}

function readRecursive(node: Tree, scope: Scope, reader: Reader): Out[] {
  const name = lower(node['cte_name'])
  let columns = renamed(readQuery(objectOf(node['left']), scope, reader), node['aliases'])
  // Each round can only add origins, and there are finitely many of them.
  for (let before = -1, now = 0; now > before;) {
    before = weigh(columns)
    const inner = { ...scope, common: new Map(scope.common).set(name, columns) }
    const right = readQuery(objectOf(node['right']), inner, reader)
    columns = columns.map((column, index) => merged(column, right[index]))
    now = weigh(columns)
  }
  return columns
}

function readSelect(node: Tree, scope: Scope, reader: Reader): Out[] {
  const relations = readFrom(objectOf(node['from_table']), scope, reader)
  const inner = { ...scope, outer: [relations, ...scope.outer] }
  const found: Out[] = []
  for (const item of listOf(node['select_list'])) {
    if (item['type'] === 'STAR') found.push(...readStar(item, inner, reader))
    else {
      const name = String(item['alias'] ?? listOf<string>(item['column_names']).at(-1) ?? item['function_name'] ?? '')
      found.push({ name, origins: readExpression(item, inner, reader, found) })
    }
  }
  // For the tables that they read.
  for (const part of ['where_clause', 'having', 'qualify', 'group_expressions', 'modifiers'])
    readExpression(node[part], inner, reader, found)
  return found
}

function readFrom(from: Tree, scope: Scope, reader: Reader): Relation[] {
  const alias = from['alias'] === undefined ? undefined : String(from['alias'])
  const relation = (name: string, columns: Out[]): Relation[] => [
    { name: lower(alias ?? name), columns: renamed(columns, from['column_name_alias']), hidden: new Set() },
  ]
  switch (from['type']) {
    case 'BASE_TABLE':
      return relation(String(from['table_name']), readTable(from, scope, reader))
    case 'SUBQUERY':
      return relation('', readQuery(objectOf(objectOf(from['subquery'])['node']), scope, reader))
    case 'JOIN':
      return readJoin(from, scope, reader)
    case 'EXPRESSION_LIST': {
      const rows = listOf<Tree[]>(from['values'])
      const columns = (rows[0] ?? []).map((_, index) => ({
        name: `col${index}`,
        origins: rows.flatMap((row) => readExpression(row[index], scope, reader)),
      }))
      return relation('', columns)
    }
    case 'TABLE_FUNCTION': {
      const called = objectOf(from['function'])
      const name = lower(called['function_name'])
      const table = name.replace(/_as_of(_load)?$/, '')
      const past = table === name ? undefined : reader.catalog.get(`main.${table}`)
      if (past) return relation(name, columnsOf(`main.${table}`, past, reader))
      const origins = computed(readExpression(called['children'], scope, reader))
      return relation(
        name,
        namesOf(from['column_name_alias'], name).map((column) => ({ name: column, origins })),
      )
    }
    case 'PIVOT': {
      const source = readFrom(objectOf(from['source']), scope, reader)
      const origins = computed(source.flatMap(({ columns }) => columns.flatMap((column) => column.origins)))
      return relation('', [{ name: '*', origins, isOpen: true }])
    }
    default:
      return []
  }
}

function readTable(from: Tree, scope: Scope, reader: Reader): Out[] {
  const name = lower(from['table_name'])
  const schema = lower(from['schema_name'] ?? '')
  const common = schema === '' && !from['catalog_name'] ? scope.common.get(name) : undefined
  if (common) return common
  const schemas = schema === '' || schema === 'lake' ? ['main', 'raw'] : [schema]
  const found = schemas.map((known) => `${known}.${name}`).find((known) => reader.catalog.has(known))
  return found === undefined ? [] : columnsOf(found, reader.catalog.get(found) ?? [], reader)
}

function columnsOf(known: string, names: readonly string[], reader: Reader): Out[] {
  const table = known.startsWith('main.') ? known.slice('main.'.length) : known
  reader.tables.add(table)
  return names.map((column) => ({ name: column, origins: [{ table, column, isCopied: true }] }))
}

function readJoin(from: Tree, scope: Scope, reader: Reader): Relation[] {
  const left = readFrom(objectOf(from['left']), scope, reader)
  // A lateral side sees what stands before it.
  const right = readFrom(objectOf(from['right']), { ...scope, outer: [left, ...scope.outer] }, reader)
  const inner = { ...scope, outer: [[...left, ...right], ...scope.outer] }
  readExpression(from['condition'], inner, reader)
  if (from['join_type'] === 'SEMI' || from['join_type'] === 'ANTI') return left
  const using =
    from['ref_type'] === 'NATURAL'
      ? visibleOf(right).flatMap(({ name }) => (findColumn(left, name) ? [name] : []))
      : listOf<string>(from['using_columns'])
  for (const name of using) {
    const [kept, other] = [findColumn(left, name), findColumn(right, name)]
    // Of an outer join the value may be that of either side.
    if (kept && other && ['RIGHT', 'OUTER', 'FULL'].includes(String(from['join_type'])))
      kept.origins = originsOf([...kept.origins, ...other.origins], true)
    for (const side of right) if (side.columns.some((column) => same(column.name, name))) side.hidden.add(lower(name))
  }
  return [...left, ...right]
}

function readStar(item: Tree, scope: Scope, reader: Reader): Out[] {
  const [relations = []] = scope.outer
  const of = item['relation_name']
  const columns =
    of === undefined
      ? visibleOf(relations)
      : relations.filter(({ name }) => name === lower(of)).flatMap((relation) => relation.columns)
  // `exclude_list` has plain names, or names with a relation in an object.
  const excluded = listOf<unknown>(item['exclude_list']).map((entry) =>
    lower(typeof entry === 'string' ? entry : (objectOf(entry)['column'] ?? listOf<string>(entry).at(-1))),
  )
  for (const entry of listOf(item['qualified_exclude_list'])) excluded.push(lower(entry['column']))
  const replaced = new Map(listOf(item['replace_list']).map(({ key, value }) => [lower(key), objectOf(value)]))
  const renames = new Map(
    listOf(item['rename_list']).map(({ key, value }) => [lower(objectOf(key)['column'] ?? key), String(value)]),
  )
  const chosen = item['columns'] === true ? chosenBy(objectOf(item['expr']), columns) : columns
  return chosen
    .filter((column) => !excluded.includes(lower(column.name)))
    .map((column) => {
      const expression = replaced.get(lower(column.name))
      const name = renames.get(lower(column.name)) ?? column.name
      return expression ? { name, origins: readExpression(expression, scope, reader) } : { ...column, name }
    })
}

// COLUMNS('regex') names columns by a pattern; by anything else it may be any of them.
function chosenBy(expression: Tree, columns: Out[]): Out[] {
  const pattern = objectOf(expression['value'])['value']
  if (expression['class'] === 'STAR') return columns
  if (typeof pattern !== 'string')
    return [{ name: '*', origins: columns.flatMap(({ origins }) => origins), isOpen: true }]
  try {
    const matches = new RegExp(pattern, 'u')
    return columns.filter(({ name }) => matches.test(name))
  } catch {
    return [{ name: '*', origins: columns.flatMap(({ origins }) => origins), isOpen: true }]
  }
}

/** The origins of an expression. `beside` are the columns of the same SELECT that stand before it. */
function readExpression(node: unknown, scope: Scope, reader: Reader, beside: readonly Out[] = []): Origin[] {
  if (Array.isArray(node)) return node.flatMap((part) => readExpression(part, scope, reader, beside))
  if (typeof node !== 'object' || node === null) return []
  const expression = objectOf(node)
  if (expression['type'] === 'COLUMN_REF')
    return readReference(listOf<string>(expression['column_names']), scope, beside)
  if (expression['type'] === 'SUBQUERY') {
    const columns = readQuery(objectOf(objectOf(expression['subquery'])['node']), scope, reader)
    const of = readExpression(expression['child'], scope, reader, beside)
    // EXISTS and IN ask whether there are rows; only a scalar subquery gives a value of theirs.
    return expression['subquery_type'] === 'SCALAR' ? columns.flatMap(({ origins }) => origins) : computed(of)
  }
  if (expression['type'] === 'STAR')
    return computed(readStar(expression, scope, reader).flatMap(({ origins }) => origins))
  if (expression['type'] === 'LAMBDA') {
    const names = new Set(parametersOf(expression['lhs']))
    const hiding: Relation = { name: '', columns: [...names].map((name) => ({ name, origins: [] })), hidden: new Set() }
    return readExpression(expression['expr'], { ...scope, outer: [[hiding], ...scope.outer] }, reader)
  }
  const parts = Object.entries(expression).filter(([key]) => !filters.has(key))
  for (const key of filters) readExpression(expression[key], scope, reader, beside)
  const origins = parts.flatMap(([, part]) => readExpression(part, scope, reader, beside))
  return isWrapper(expression) ? origins : computed(origins)
}

// Which rows an aggregate or a window looks at is no part of its value.
const filters = new Set(['filter', 'order_bys', 'partitions', 'orders', 'when_expr'])

// Lists pass values on; every node with a class makes new ones.
const isWrapper = (expression: Tree): boolean => expression['class'] === undefined

function readReference(names: readonly string[], scope: Scope, beside: readonly Out[]): Origin[] {
  const [first = '', second] = names
  for (const [level, relations] of scope.outer.entries()) {
    // `relation.column`, with schema and catalog before it or fields of a struct behind.
    for (const [index, name] of names.entries()) {
      const relation = relations.find((relation) => relation.name === lower(name))
      const column = names[index + 1]
      if (!relation || column === undefined) continue
      const found = relation.columns.find((candidate) => candidate.isOpen || same(candidate.name, column))
      if (found) return index + 2 < names.length ? computed(found.origins) : found.origins
    }
    const found = findColumn(relations, first)
    if (found) return second === undefined ? found.origins : computed(found.origins)
    // The whole row of a relation.
    const row = second === undefined && relations.find((relation) => relation.name === lower(first))
    if (row) return computed(row.columns.flatMap(({ origins }) => origins))
    const earlier = level === 0 && second === undefined && beside.find((column) => same(column.name, first))
    if (earlier) return earlier.origins
  }
  return []
}

function parametersOf(node: unknown): string[] {
  if (Array.isArray(node)) return node.flatMap(parametersOf)
  const object = objectOf(node)
  const children = listOf(object['children'])
  return [...listOf<string>(object['column_names']).map(lower), ...children.flatMap(parametersOf)]
}

const namesOf = (aliases: unknown, name: string): string[] => {
  const names = listOf<string>(aliases)
  return names.length > 0 ? names : [name]
}
