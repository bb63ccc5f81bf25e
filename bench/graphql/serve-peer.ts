import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRequire } from 'node:module'
import { drizzle } from 'drizzle-orm/node-postgres'
import { createYoga } from 'graphql-yoga'
import pg from 'pg'
import type { Db } from '../../shared/db/db.ts'
import { bareSchema, bareSdl, type Page, pageOf, rowsInTenant, rowsOfList, yogaOptions } from './question.ts'

// One of the servers beside ours, in a process of its own: prints its address when it listens.
const [, , kind = ''] = process.argv
const tenantId = process.env['TENANT_ID'] ?? ''
const peers = createRequire(new URL('../peers/package.json', import.meta.url))

// As many connections as the control plane has.
const db = drizzle(new pg.Pool({ connectionString: process.env['DATABASE_URL'], max: 20 })) as unknown as Db
const pipelines = async (_root: unknown, { first }: { first: number }): Promise<Page> =>
  pageOf(await rowsInTenant(db, tenantId), first)

const starts: Record<string, () => Promise<string>> = {
  yoga: () => yoga(() => rowsInTenant(db, tenantId)),
  'yoga-without-tenants': () => yoga(() => rowsOfList(db, tenantId)),
  mercurius,
  apollo,
}
const start = starts[kind]
if (!start) throw new Error(`there is no peer ${kind}`)
console.log(await start())

async function yoga(list: Parameters<typeof bareSchema>[0]): Promise<string> {
  const server = createServer(createYoga({ schema: bareSchema(list), ...yogaOptions }))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/graphql`
}

/** What is used of Fastify, which lives with the peers. */
type Fastify = () => {
  register(plugin: unknown, options: object): Promise<void>
  listen(options: { host: string; port: number }): Promise<string>
}

// Compiled queries are what it is chosen for.
async function mercurius(): Promise<string> {
  const app = (peers('fastify') as Fastify)()
  await app.register(peers('mercurius'), { schema: bareSdl, resolvers: { Query: { pipelines } }, jit: 1 })
  return `${await app.listen({ host: '127.0.0.1', port: 0 })}/graphql`
}

/** What is used of Apollo Server, which lives with the peers. */
type Apollo = { ApolloServer: new (options: object) => object }
type Standalone = { startStandaloneServer(server: object, options: object): Promise<{ url: string }> }

async function apollo(): Promise<string> {
  const { ApolloServer } = peers('@apollo/server') as Apollo
  const { startStandaloneServer } = peers('@apollo/server/standalone') as Standalone
  const server = new ApolloServer({ typeDefs: bareSdl, resolvers: { Query: { pipelines } } })
  const { url } = await startStandaloneServer(server, { listen: { host: '127.0.0.1', port: 0 } })
  return url
}
