import { AppError } from '../../shared/errors.ts'
import type { Connection } from './connection.ts'
import { scrubbed } from './error.ts'

/** A node of the tree that the engine's parser makes of a statement. */
export type Tree = { [key: string]: unknown }

/**
 * Parses exactly one SELECT. `text` is the same statement in a form that can stand in brackets, and `tree` is that of the
 * text that was given. Throws SQL_NOT_ALLOWED for anything but one SELECT, SQL_INVALID for what cannot be parsed.
 */
export async function parseSelect(connection: Connection, text: string): Promise<{ tree: Tree; text: string }> {
  const serialized = await serialize(connection, text)
  const tree = JSON.parse(serialized) as Tree // the engine wrote it
  if (tree['error'] === true) {
    const message = String(tree['error_message'] ?? '')
    if (tree['error_type'] === 'not implemented') throw notAllowed('Only SELECT statements can be used here.')
    throw new AppError('SQL_INVALID', scrubbed(message))
  }
  const statements = tree['statements']
  if (!Array.isArray(statements) || statements.length !== 1)
    throw notAllowed('A step runs exactly one statement; this text has none or several.')
  // A trailing semicolon or comment would swallow the bracket that follows, so such a text is taken as the engine writes it.
  if (!/;|--|\/\*/.test(text)) return { tree, text }
  const [row] = await connection.rows(`SELECT json_deserialize_sql(json_serialize_sql($1::VARCHAR)) AS text`, [text])
  const canonical = String(row?.['text'])
  if (withoutPlaces(await serialize(connection, canonical)) !== withoutPlaces(serialized))
    throw new AppError('SQL_INVALID', 'Remove the comments and semicolons of this statement.')
  return { tree, text: canonical }
}

/** Calls `visit` with every object of a tree, in no order of note. */
export function visitTree(tree: Tree, visit: (node: Tree) => void): void {
  const waiting: unknown[] = [tree]
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    if (Array.isArray(node)) waiting.push(...node)
    else if (typeof node === 'object' && node !== null) {
      visit(node as Tree) // plain JSON
      for (const value of Object.values(node)) if (value !== undefined) waiting.push(value)
    }
  }
}

async function serialize(connection: Connection, text: string): Promise<string> {
  const [row] = await connection.rows(
    `SELECT json_serialize_sql($1::VARCHAR, skip_null := true, skip_empty := true)::VARCHAR AS tree`,
    [text],
  )
  return String(row?.['tree'])
}

const withoutPlaces = (tree: string): string => tree.replace(/"query_location":\d+,?/g, '')

const notAllowed = (message: string): AppError => new AppError('SQL_NOT_ALLOWED', message)
