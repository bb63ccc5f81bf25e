import { z } from 'zod'
import type { Scope } from '../../schema/roles.ts'
import type { Operation } from '../../schema/operations/index.ts'

/** What a request brings: the parts of its path and query that are named, and its body. */
type Given<P extends z.ZodType, B extends z.ZodType> = { parameters: z.output<P>; body: z.output<B> }
/** What it is answered. `location` is where the thing is found from now on. */
type Reply<R extends z.ZodType> = { status: number; body: z.output<R>; location?: string }

type Spec<Data, Variables, P extends z.ZodType, B extends z.ZodType, R extends z.ZodType> = {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Below `/api/v1`, as `/tenants/{tenant_id}/credentials`. */
  path: string
  summary: string
  /** The published operation that does it. */
  operation: Operation<Data, Variables>
  /** Those of the path by their names in it; the others come in the query. */
  parameters: P
  /** Of a request that brings one; `isBodyOptional`: nothing counts as `{}`. */
  body: B
  isBodyOptional?: boolean
  /** The tenant that it names: that of the caller, or of anybody for these scopes. */
  tenant?: { of: (given: Given<P, B>) => string | undefined; foreignFor: readonly Scope[] }
  variables: (given: Given<P, B>) => Variables
  reply: R
  /** What each status of success says. */
  statuses: Readonly<Record<number, string>>
  answer: (data: Data) => Reply<R>
}

/** A way to a published operation by path and method. */
export type Route = Omit<
  Spec<never, unknown, z.ZodObject, z.ZodType, z.ZodType>,
  'operation' | 'tenant' | 'variables' | 'answer'
> & {
  operation: Operation<unknown, never>
  tenant: { of: (given: Given<z.ZodType, z.ZodType>) => string | undefined; foreignFor: readonly Scope[] } | undefined
  variables: (given: Given<z.ZodType, z.ZodType>) => Record<string, unknown>
  answer: (data: unknown) => Reply<z.ZodType>
}

/** The body of a request that brings none. */
export const noBody = z.undefined()

/** A route, whose mapping is checked against the types of its operation here and nowhere else. */
export function defineRoute<
  Data,
  Variables extends Record<string, unknown>,
  P extends z.ZodObject,
  B extends z.ZodType,
  R extends z.ZodType,
>(spec: Spec<Data, Variables, P, B, R>): Route {
  const { tenant, variables, answer } = spec
  return {
    ...spec,
    tenant: tenant && { of: (given) => tenant.of(given as Given<P, B>), foreignFor: tenant.foreignFor },
    // `given` was parsed by the shapes of this very spec, and data come from its operation.
    variables: (given) => variables(given as Given<P, B>),
    answer: (data) => answer(data as Data),
  }
}
