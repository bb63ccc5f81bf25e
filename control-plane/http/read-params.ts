import { z } from 'zod'
import { operations } from '../../schema/operations/index.ts'
import { limits } from '../graphql/limits.ts'
import { AppError } from '../../shared/errors.ts'
import { checkJson } from './check-json.ts'
import { readText } from './read-body.ts'

/** What a request asks for. */
export type Params = { query: string; variables: Record<string, unknown>; operationName: string | undefined }

const published: ReadonlyMap<string, string> = new Map(Object.values(operations).map(({ id, text }) => [id, text]))
const publishedTexts: ReadonlySet<string> = new Set(published.values())

/** Whether a document is, to the letter, one of the published operations. */
export const isPublished = (query: string): boolean => publishedTexts.has(query)

const operationOf = (id: string): string | undefined => published.get(id.replace(/^sha256:/, ''))

const shape = z.object({
  query: z.string().nullish(),
  documentId: z.string().max(100).nullish(),
  variables: z.record(z.string(), z.unknown()).nullish(),
  operationName: z.string().max(limits.nameChars).nullish(),
  extensions: z.looseObject({ persistedQuery: z.looseObject({ sha256Hash: z.string().max(100) }).nullish() }).nullish(),
})

/**
 * What a POST asks for, read once. The body must be JSON of one request; instead of `query` it may name a published operation as `documentId`
 * or as `extensions.persistedQuery.sha256Hash`. Throws BAD_INPUT, TOO_LARGE, and NOT_FOUND for an unknown operation.
 */
export async function readPost(request: Request, bytesMax: number): Promise<Params> {
  const type = request.headers.get('content-type') ?? ''
  if (!/^application\/json *(;|$)/i.test(type))
    throw new AppError('BAD_INPUT', 'The body must be application/json.', {
      hint: 'Set content-type: application/json.',
    })
  return paramsOf(parseJson(await readText(request, bytesMax), 'The body'))
}

/** What a GET asks for: a published operation that is no mutation, and its variables. Throws as `readPost`. */
export function readGet(url: URL): Params {
  const { searchParams: search } = url
  if (url.search.length > urlCharsMax) throw new AppError('TOO_LARGE', `The URL is longer than ${urlCharsMax} bytes.`)
  const json = (name: string): unknown => {
    const text = search.get(name)
    return text === null ? undefined : parseJson(text, name)
  }
  return paramsOf({
    documentId: search.get('documentId'),
    operationName: search.get('operationName'),
    variables: json('variables'),
    extensions: json('extensions'),
  })
}

const urlCharsMax = 16_384

function paramsOf(given: unknown): Params {
  if (Array.isArray(given)) throw new AppError('BAD_INPUT', 'One request at a time: batches are not taken.')
  const parsed = shape.safeParse(given)
  if (!parsed.success)
    throw new AppError(
      'BAD_INPUT',
      `Not usable: ${parsed.error.issues.map(({ path }) => path.join('.')).join(', ')}.`,
      {
        hint: 'Send {"query": …, "variables": {…}, "operationName": …}, with documentId in the place of query for a published operation.',
      },
    )
  const { query, documentId, variables, operationName, extensions } = parsed.data
  const id = documentId ?? extensions?.persistedQuery?.sha256Hash
  const known = id === null || id === undefined ? undefined : operationOf(id)
  const text = query ?? known
  if (text === undefined) {
    if (id === null || id === undefined)
      throw new AppError('BAD_INPUT', 'There is neither a query nor a documentId.', {
        hint: 'By GET only published operations are taken: send a query by POST.',
      })
    throw new AppError('NOT_FOUND', 'No published operation has this id.', {
      hint: 'Take it from schema/operations.json of this release.',
    })
  }
  if (text.length > limits.documentChars)
    throw new AppError(
      'TOO_LARGE',
      `This document has ${text.length} characters; ${limits.documentChars} is the limit.`,
    )
  return { query: text, variables: variables ?? {}, operationName: operationName ?? undefined }
}

/** A text as JSON, bounded as `checkJson` says. Throws BAD_INPUT and TOO_LARGE; `what` begins the message. */
export function parseJson(text: string, what: string): unknown {
  checkJson(text, what)
  try {
    return JSON.parse(text)
  } catch {
    throw new AppError('BAD_INPUT', `${what} is not JSON.`)
  }
}
