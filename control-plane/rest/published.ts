import { lexicographicSortSchema, printSchema } from 'graphql'
import openapi from '../../schema/openapi.json' with { type: 'json' }
import { operations } from '../../schema/operations/index.ts'
import { schema } from '../graphql/schema.ts'
import { restPrefix } from './find-route.ts'

// Made when it is asked for, once: printing a schema takes longer than most requests.
let sdl: string | undefined

const documents: Readonly<Record<string, () => Response>> = {
  '/openapi.json': () => Response.json(openapi),
  '/operations.json': () =>
    Response.json(
      Object.fromEntries(
        Object.entries(operations).map(([file, { id, name, kind, text }]) => [file, { id, name, kind, text }]),
      ),
    ),
  '/schema.graphql': () => {
    sdl ??= `${printSchema(lexicographicSortSchema(schema))}\n`
    return new Response(sdl, { headers: { 'content-type': 'application/graphql; charset=utf-8' } })
  },
}

/** What describes the API of this deployment and is found at this path; undefined for any other path. */
export function publishedAt(pathname: string): (() => Response) | undefined {
  const path = pathname.startsWith(`${restPrefix}/`) ? pathname.slice(restPrefix.length) : ''
  return Object.hasOwn(documents, path) ? documents[path] : undefined
}
