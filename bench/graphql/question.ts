import { and, asc, eq, sql } from 'drizzle-orm'
import { type GraphQLSchema, buildSchema } from 'graphql'
import { pipeline } from '../../schema/tables/index.ts'
import type { Db } from '../../shared/db/db.ts'

/** How many rows each list has. */
export const listed = 100

/** What every server is asked. */
export const question =
  'query List($first: Int!) { pipelines(first: $first) { nodes { id path version updatedAt } pageInfo { hasNextPage endCursor } } }'

/** The same as the body of a POST. */
export const body = JSON.stringify({ query: question, variables: { first: listed } })

/** The schema of a server that has nothing but this list. */
export const bareSdl = `
  type Query { pipelines(first: Int!): Page! }
  type Page { nodes: [Pipeline!]! pageInfo: PageInfo! }
  type PageInfo { hasNextPage: Boolean! endCursor: String }
  type Pipeline { id: ID! path: String! version: Int! updatedAt: String! }`

type Row = typeof pipeline.$inferSelect
/** What it answers to the field. */
export type Page = { nodes: object[]; pageInfo: object }

/** The rows, by Drizzle as everywhere. */
export const rowsOfList = (db: Db, tenantId: string): Promise<Row[]> =>
  db
    .select()
    .from(pipeline)
    .where(and(eq(pipeline.tenantId, tenantId)))
    .orderBy(asc(pipeline.path))
    .limit(listed + 1)

/** What a transaction begins with that sees one tenant. */
export const scopeOf = (tenantId: string) =>
  sql`select set_config('role', 'tributary_api', true), set_config('app.tenant_id', ${tenantId}, true)`

/** The rows in a transaction that sees one tenant, as any server would ask for them that keeps tenants apart. */
export const rowsInTenant = (db: Db, tenantId: string): Promise<Row[]> =>
  db.transaction(async (tx) => {
    await tx.execute(scopeOf(tenantId))
    return rowsOfList(tx, tenantId)
  })

/** One page of rows, without a proof of where it ends. */
export function pageOf(rows: Row[], first: number): Page {
  const nodes = rows
    .slice(0, first)
    .map((row) => ({ ...row, version: row.currentVersion, updatedAt: row.updatedAt.toISOString() }))
  return { nodes, pageInfo: { hasNextPage: rows.length > first, endCursor: btoa(nodes.at(-1)?.path ?? '') } }
}

/** A schema that lists by `list`. */
export function bareSchema(list: () => Promise<Row[]>): GraphQLSchema {
  const types = buildSchema(bareSdl)
  const query = types.getQueryType()?.getFields()['pipelines']
  if (!query) throw new Error('the schema has no such field')
  query.resolve = async (_root, { first }) => pageOf(await list(), first)
  return types
}

/** How the library is put up when nothing but the answer is wanted of it. */
export const yogaOptions = {
  graphqlEndpoint: '/graphql',
  logging: false,
  graphiql: false,
  landingPage: false,
} as const
