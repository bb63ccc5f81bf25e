import { z } from 'zod'
import { errorCodes } from '../../shared/errors.ts'
import { noBody, type Route } from './define.ts'
import { restPrefix } from './find-route.ts'
import { problemShape } from './shapes.ts'

/** The routes as an OpenAPI 3.1 document, from the shapes that read and write them. */
export function openApi(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const route of routes)
    (paths[`${restPrefix}${route.path}`] ??= {})[route.method.toLowerCase()] = operationOf(route)
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tributary',
      version: '1',
      description:
        'A way to some operations of the GraphQL API by path and method: with the same keys, scopes, limits and errors.',
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }],
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'An API key, or the access token of a session.' },
      },
      schemas: { Problem: schemaOf(problemShape) },
      responses: {
        Problem: {
          description: 'Why it was not done, RFC 9457.',
          headers: { 'x-request-id': { schema: { type: 'string' } }, 'retry-after': { schema: { type: 'integer' } } },
          content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
        },
      },
      parameters: {
        IdempotencyKey: {
          name: 'Idempotency-Key',
          in: 'header',
          description:
            'Within 24 hours the same key with the same input does nothing again and is answered as the first time.',
          schema: { type: 'string', minLength: 1, maxLength: 200 },
        },
      },
    },
    'x-error-codes': Object.fromEntries(Object.entries(errorCodes).map(([code, { status }]) => [code, status])),
  }
}

function operationOf(route: Route): object {
  const { path, summary, operation, body, isBodyOptional, reply, statuses } = route
  const content = { 'application/json': { schema: schemaOf(reply) } }
  const isChange = operation.kind === 'mutation'
  return {
    operationId: `${route.method.toLowerCase()}${path.replaceAll(/[^a-z]+(\w)/gi, (_, letter: string) => letter.toUpperCase()).replaceAll(/\W/g, '')}`,
    summary,
    'x-graphql-operation': operation.name,
    parameters: [
      ...Object.entries(route.parameters.shape).map(([name, shape]) =>
        parameterOf(name, shape, path.includes(`{${name}}`)),
      ),
      ...(isChange ? [{ $ref: '#/components/parameters/IdempotencyKey' }] : []),
    ],
    ...(body === noBody
      ? {}
      : { requestBody: { required: !isBodyOptional, content: { 'application/json': { schema: schemaOf(body) } } } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(statuses).map(([status, description]) => [status, { description, content }]),
      ),
      default: { $ref: '#/components/responses/Problem' },
    },
  }
}

function parameterOf(name: string, shape: z.core.$ZodType, isInPath: boolean): object {
  const { description, ...schema } = schemaOf(shape)
  const isRequired = isInPath || !z.safeParse(shape, undefined).success
  return {
    name,
    in: isInPath ? 'path' : 'query',
    required: isRequired,
    ...(description === undefined ? {} : { description }),
    schema,
  }
}

function schemaOf(shape: z.core.$ZodType): Record<string, unknown> {
  const { $schema: _, ...schema } = z.toJSONSchema(shape, { io: 'input', reused: 'inline', override: withoutBounds })
  return schema
}

// Bounds that zod writes for every integer say nothing.
function withoutBounds({ jsonSchema }: { jsonSchema: z.core.JSONSchema.BaseSchema }): void {
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
}
