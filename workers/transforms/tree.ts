import type { Tree } from '../lake/parse.ts'

/** A part of a parsed query, which is the engine's own JSON: without fields where it has none. */
export const objectOf = (node: unknown): Tree => (typeof node === 'object' && node !== null ? (node as Tree) : {})
/** A list of a parsed query: empty where it has none. */
export const listOf = <T = Tree>(node: unknown): T[] => (Array.isArray(node) ? (node as T[]) : [])
/** A name as names are told apart. */
export const lower = (name: unknown): string => String(name ?? '').toLowerCase()
/** True for two spellings of one name. */
export const same = (one: string, other: string): boolean => lower(one) === lower(other)
