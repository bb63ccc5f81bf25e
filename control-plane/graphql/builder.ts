import SchemaBuilder from '@pothos/core'
import RelayPlugin from '@pothos/plugin-relay'
import ScopeAuthPlugin from '@pothos/plugin-scope-auth'
import type { Scope } from '../../schema/roles.ts'
import { AppError } from '../../shared/errors.ts'
import { holds } from '../auth/api-key.ts'
import { authOf, type Context } from '../context.ts'
import { momentText } from './moment-text.ts'

/**
 * The one builder of the schema. Every root field and every type with a tenant's data names its scope: `authScopes:
 * { scope: 'runs:read' }`, or a list of which any one will do; `anyone` for what strangers may ask. Fields are non-null unless they say otherwise.
 */
export const builder = new SchemaBuilder<{
  Context: Context
  AuthScopes: { scope: Scope | readonly Scope[]; authenticated: boolean; anyone: boolean }
  Scalars: {
    DateTime: { Input: Date; Output: Date }
    Date: { Input: string; Output: string }
    JSON: { Input: unknown; Output: unknown }
    BigInt: { Input: number; Output: number }
  }
  DefaultFieldNullability: false
  DefaultEdgesNullability: { list: false; items: false }
  DefaultNodeNullability: false
}>({
  plugins: [ScopeAuthPlugin, RelayPlugin],
  defaultFieldNullability: false,
  scopeAuth: {
    authorizeOnSubscribe: true,
    treatErrorsAsUnauthorized: true,
    authScopes: (context) => ({
      authenticated: context.auth !== undefined,
      anyone: true,
      scope: (wanted) => context.auth !== undefined && holds(context.auth, wanted),
    }),
    unauthorizedError: (_parent, context) => {
      if (authOf(context).isSuspended)
        return new AppError('TENANT_NOT_ACTIVE', 'This tenant is suspended: it can be read and not changed.', {
          hint: 'The operator of the platform resumes it.',
        })
      return new AppError('FORBIDDEN', 'This key or person has not the scope that the field needs.')
    },
  },
  relay: {
    nodeQueryOptions: false,
    nodesQueryOptions: false,
    pageInfoTypeOptions: { description: 'Where a page of a list stands.' },
    pageInfoFieldOptions: { description: 'Where the page stands.' },
    hasNextPageFieldOptions: { description: 'Whether there is more after this page.' },
    hasPreviousPageFieldOptions: { description: 'Whether this page was asked for with a cursor.' },
    startCursorFieldOptions: { description: 'Cursor of the first item of the page.' },
    endCursorFieldOptions: { description: 'Cursor of the last item: give it as `after` for the next page.' },
    cursorFieldOptions: { description: 'Where this item stands in its list.' },
    nodeFieldOptions: { description: 'The item.', nullable: false },
    edgesFieldOptions: {
      description: 'The items of the page with their cursors.',
      nullable: { list: false, items: false },
    },
    nodesOnConnection: { description: 'The items of the page.' },
  },
})

builder.queryType({ description: 'What can be read. A key reads its own tenant only.' })
builder.mutationType({
  description: 'What can be changed. Refusals that a caller can act on come back as `errors` beside the result.',
})
builder.subscriptionType({
  description: 'What can be watched, as server-sent events that resume where they broke off.',
})

builder.scalarType('DateTime', {
  description: 'A moment in UTC, as `2026-11-20T08:30:00.000Z`.',
  serialize: momentText,
  parseValue: (value) => {
    const at = typeof value === 'string' ? new Date(value) : undefined
    if (!at || Number.isNaN(at.getTime()))
      throw new AppError('BAD_INPUT', 'Expected a moment like 2026-11-20T08:30:00Z.')
    return at
  },
})
builder.scalarType('Date', {
  description: 'A day, as `2026-11-20`.',
  serialize: (value) => value,
  parseValue: (value) => {
    if (typeof value === 'string' && isDay(value)) return value
    throw new AppError('BAD_INPUT', 'Expected a day like 2026-11-20.')
  },
})
builder.scalarType('JSON', {
  description: 'Any JSON value.',
  serialize: (value) => value,
  parseValue: (value) => value,
})
builder.scalarType('BigInt', {
  description: 'A whole number up to 2^53, as a JSON number.',
  serialize: (value) => value,
  parseValue: (value) => {
    if (typeof value === 'number' && Number.isSafeInteger(value)) return value
    throw new AppError('BAD_INPUT', 'Expected a whole number.')
  },
})

function isDay(text: string): boolean {
  const at = /^\d{4}-\d{2}-\d{2}$/.test(text) ? new Date(`${text}T00:00:00Z`) : undefined
  return at !== undefined && !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text)
}
