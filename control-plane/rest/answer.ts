import { z } from 'zod'
import { errorCodes, isErrorCode } from '../../shared/errors.ts'
import type { Route } from './define.ts'
import type { ProblemBody } from './shapes.ts'

const fault = z.looseObject({
  message: z.string(),
  code: z.string().optional(),
  hint: z.string().nullish(),
  path: z.array(z.union([z.string(), z.number()])).nullish(),
  file: z.string().nullish(),
  line: z.number().nullish(),
  column: z.number().nullish(),
  extensions: z.looseObject({ code: z.string().optional(), hint: z.string().optional() }).optional(),
})
type Fault = z.output<typeof fault>
const result = z.looseObject({
  data: z.record(z.string(), z.unknown()).nullish(),
  errors: z.array(fault).optional(),
  extensions: z.looseObject({ idempotentReplay: z.boolean().optional() }).optional(),
})
const payload = z.looseObject({ errors: z.array(fault) })

/** What the operation of a route answered, in the form of the route: its reply, or a problem. */
export async function answerOf(route: Route, response: Response, requestId: string): Promise<Response> {
  const { data, errors = [], extensions } = result.parse(await response.json())
  const refusals = Object.values(data ?? {}).flatMap((value) => payload.safeParse(value).data?.errors ?? [])
  const retryAfter = response.headers.get('retry-after')
  if (errors.length > 0 || refusals.length > 0)
    return problem(errors.length > 0 ? errors : refusals, requestId, retryAfter ? { 'retry-after': retryAfter } : {})
  const { status, body, location } = route.answer(data)
  return Response.json(body, {
    status,
    headers: {
      ...(location === undefined ? {} : { location }),
      ...(extensions?.idempotentReplay ? { 'idempotency-replayed': 'true' } : {}),
    },
  })
}

/** A refusal of the request as a whole as a problem; every other answer as it is. */
export async function problemOf(response: Response, requestId: string): Promise<Response> {
  if (response.ok || !response.headers.get('content-type')?.startsWith('application/json')) return response
  const { errors = [] } = result.parse(await response.json())
  const kept = [...response.headers].filter(([name]) => name.startsWith('x-') || name === 'retry-after')
  return problem(errors, requestId, Object.fromEntries(kept))
}

// https://www.rfc-editor.org/rfc/rfc9457; members of GraphQL's errors that name places in a document are left out.
function problem(faults: readonly Fault[], requestId: string, headers: Record<string, string>): Response {
  const all = faults.map((one) => {
    const given = one.code ?? one.extensions?.code ?? ''
    const code = isErrorCode(given) ? given : 'INTERNAL'
    return {
      code,
      detail: one.message,
      hint: one.hint ?? one.extensions?.hint ?? errorCodes[code].hint,
      ...placeOf(one),
    }
  })
  const { code, detail, hint } = all[0] ?? { code: 'INTERNAL' as const, detail: 'Unknown.', hint: '' }
  const { status, retry } = errorCodes[code]
  const words = code.toLowerCase().replaceAll('_', ' ')
  const body: ProblemBody = {
    type: `urn:tributary:error:${code}`,
    title: words.charAt(0).toUpperCase() + words.slice(1),
    status,
    detail,
    code,
    hint,
    retry,
    request_id: requestId,
    ...(all.some((one) => 'path' in one || 'line' in one) || all.length > 1 ? { errors: all } : {}),
  }
  return Response.json(body, {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'x-request-id': requestId,
      ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
      ...headers,
    },
  })
}

function placeOf({ code, path, file, line, column }: Fault): {
  path?: string[]
  file?: string
  line?: number
  column?: number
} {
  // The path of an error that GraphQL threw is one into its answer.
  if (code === undefined) return {}
  return {
    ...(path ? { path: path.map(String) } : {}),
    ...(file ? { file } : {}),
    ...(line ? { line } : {}),
    ...(column ? { column } : {}),
  }
}
