import { createYoga } from 'graphql-yoga'
import { listOfEdge, type Variables } from './list-of-edge.ts'
import { bareSchema, yogaOptions } from './question.ts'

let yoga: { fetch(request: Request): Response | Promise<Response> } | undefined

/** The server library on workerd, with its defaults. */
export default {
  fetch(request: Request, variables: Variables): Response | Promise<Response> {
    yoga ??= createYoga({ schema: bareSchema(listOfEdge(variables)), ...yogaOptions })
    return yoga.fetch(request)
  },
}
