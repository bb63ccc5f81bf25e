import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context } from '../context.ts'
import { readText } from '../http/read-body.ts'
import { type Params, parseJson } from '../http/read-params.ts'
import { noBody, type Route } from './define.ts'
import { routes } from './routes.ts'

/** Below this stands everything that is asked by path and method. */
export const restPrefix = '/api/v1'

/** A request to a route. */
export type Call = {
  route: Route
  /** What it asks of GraphQL. Throws BAD_INPUT, which names fields and never repeats a value, and TOO_LARGE. */
  read(bytesMax: number): Promise<Params>
  /** Throws FORBIDDEN when it names a tenant that is not the caller's, whether there is one or not. Comes after `read`. */
  refuseForeign(context: Context): void
}

/** The route of a request. Throws NOT_FOUND for a path that there is not, or not with this method. */
export function findRoute(request: Request, url: URL): Call {
  const found = routes.flatMap((route) => {
    const parts = partsOf(route.path, url.pathname.slice(restPrefix.length))
    return parts ? [{ route, parts }] : []
  })
  const call = found.find(({ route }) => route.method === request.method)
  if (!call) {
    const methods = [...new Set(found.map(({ route }) => route.method))]
    const hint = methods.length > 0 ? `It takes ${methods.join(', ')}.` : `See ${restPrefix}/openapi.json.`
    throw new AppError('NOT_FOUND', 'There is no such path, or not with this method.', { hint })
  }
  const { route, parts } = call
  let tenantId: string | undefined
  return {
    route,
    async read(bytesMax) {
      const query = Object.fromEntries(url.searchParams)
      const parameters = checked(route.parameters.strict(), { ...query, ...parts }, 'the path or query')
      const body = checked(route.body, await bodyOf(request, route, bytesMax), 'the body')
      const given = { parameters, body }
      tenantId = route.tenant?.of(given)
      return { query: route.operation.text, variables: route.variables(given), operationName: undefined }
    },
    refuseForeign(context) {
      const auth = authOf(context)
      if (tenantId === undefined || tenantId === auth.tenantId || holds(auth, route.tenant?.foreignFor ?? [])) return
      throw new AppError('FORBIDDEN', 'The path or the body names another tenant.', {
        hint: 'Name the tenant of your key.',
      })
    },
  }
}

// The named parts of a path that fits; undefined for one that does not.
function partsOf(pattern: string, path: string): Record<string, string> | undefined {
  const [wanted, is] = [pattern.split('/'), path.split('/')]
  if (wanted.length !== is.length) return undefined
  const parts: Record<string, string> = {}
  for (const [index, part] of wanted.entries()) {
    const text = decoded(is[index] ?? '')
    const name = /^\{(\w+)\}$/.exec(part)?.[1]
    if (name === undefined ? part !== text : !text || text.includes('/')) return undefined
    if (name !== undefined && text !== undefined) parts[name] = text
  }
  return parts
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}

async function bodyOf(request: Request, { body, isBodyOptional }: Route, bytesMax: number): Promise<unknown> {
  if (body === noBody) return undefined
  const text = await readText(request, bytesMax)
  if (text === '' && isBodyOptional) return {}
  if (!/^application\/json *(;|$)/i.test(request.headers.get('content-type') ?? ''))
    throw new AppError('BAD_INPUT', 'The body must be application/json.', {
      hint: 'Set content-type: application/json.',
    })
  return parseJson(text, 'The body')
}

function checked<S extends z.ZodType>(shape: S, value: unknown, where: string): z.output<S> {
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const fields = parsed.error.issues.flatMap(({ path, ...issue }) =>
    issue.code === 'unrecognized_keys' && path.length === 0
      ? ['a field that it does not take']
      : [path.length > 0 ? path.map(String).join('.') : 'all of it'],
  )
  throw new AppError('BAD_INPUT', `Not usable in ${where}: ${[...new Set(fields)].slice(0, 10).join(', ')}.`, {
    hint: `See ${restPrefix}/openapi.json.`,
  })
}
