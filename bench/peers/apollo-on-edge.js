import { ApolloServer, HeaderMap } from '@apollo/server'
import { listOfEdge } from '../graphql/list-of-edge.ts'
import { bareSdl, pageOf } from '../graphql/question.ts'

let started

async function start(variables) {
  const list = listOfEdge(variables)
  const pipelines = async (_root, { first }) => pageOf(await list(), first)
  const server = new ApolloServer({ typeDefs: bareSdl, resolvers: { Query: { pipelines } } })
  server.startInBackgroundHandlingStartupErrorsByLoggingAndFailingAllRequests()
  return server
}

/** Apollo Server on workerd by its door for frameworks. */
export default {
  async fetch(request, variables) {
    const server = await (started ??= start(variables))
    const { status, headers, body } = await server.executeHTTPGraphQLRequest({
      httpGraphQLRequest: {
        method: request.method,
        headers: new HeaderMap(request.headers),
        search: new URL(request.url).search,
        body: await request.json(),
      },
      context: async () => ({}),
    })
    return new Response(body.string, { status: status ?? 200, headers: [...headers] })
  },
}
