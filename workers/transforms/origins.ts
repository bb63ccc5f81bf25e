import { listOf, lower, same } from './tree.ts'

/** A column of the lake that a value comes from. `isCopied`: the value is taken over as it is. */
export type Origin = { table: string; column: string; isCopied: boolean }

/** A column of a query. `isOpen`: it stands for columns whose names are not known. */
export type Out = { name: string; origins: Origin[]; isOpen?: boolean }
/** What stands after FROM. `hidden`: columns that another relation of a USING stands for; they count only with the name of the relation. */
export type Relation = { name: string; columns: Out[]; hidden: Set<string> }

/** The column of this name, or one whose name is not known. */
export function findColumn(relations: readonly Relation[], name: string): Out | undefined {
  const visible = visibleOf(relations)
  return visible.find((column) => same(column.name, name)) ?? visible.find((column) => column.isOpen)
}

/** The columns that have a name of their own among these relations. */
export const visibleOf = (relations: readonly Relation[]): Out[] =>
  relations.flatMap(({ columns, hidden }) => columns.filter((column) => !hidden.has(lower(column.name))))

/** Columns under the names of an alias list, as far as it goes. */
export function renamed(columns: readonly Out[], aliases: unknown): Out[] {
  const names = listOf<string>(aliases)
  return columns.map((column, index) => ({ ...column, name: names[index] ?? column.name }))
}

/** A column that has another one's origins as well. */
export const merged = (column: Out, other: Out | undefined): Out => ({
  ...column,
  origins: originsOf([...column.origins, ...(other?.origins ?? [])], true),
})

/** Each origin once; of two ways to the same column the one that computes counts. `keepsCopies`: not all are computed. */
export function originsOf(origins: readonly Origin[], keepsCopies: boolean): Origin[] {
  const found = new Map<string, Origin>()
  for (const origin of origins) {
    const key = JSON.stringify([origin.table, origin.column])
    const isCopied = keepsCopies && origin.isCopied && (found.get(key)?.isCopied ?? true)
    found.set(key, { ...origin, isCopied })
  }
  return [...found.values()]
}

/** Origins of a value that is made of others. */
export const computed = (origins: readonly Origin[]): Origin[] => originsOf(origins, false)

/** Grows with each origin that is added and with each that turns out to be computed. */
export const weigh = (columns: readonly Out[]): number =>
  columns.reduce((sum, { origins }) => sum + origins.reduce((all, { isCopied }) => all + (isCopied ? 1 : 2), 0), 0)
