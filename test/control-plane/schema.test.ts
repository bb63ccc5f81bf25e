import {
  type GraphQLField,
  type GraphQLInputType,
  isEnumType,
  isInputObjectType,
  isListType,
  isNonNullType,
  isRequiredArgument,
  isRequiredInputField,
  getNamedType,
  isLeafType,
} from 'graphql'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { schema } from '../../control-plane/graphql/schema.ts'
import { type Answer, type ControlPlane, controlPlane, type Frame } from '../support/control-plane.ts'

let plane: ControlPlane
let powerless: string
beforeAll(async () => {
  plane = await controlPlane()
  const a = await plane.tenant()
  powerless = await plane.key(a.id, { scopes: [] })
})
afterAll(() => plane[Symbol.asyncDispose]())

const roots = [
  ['query', schema.getQueryType()],
  ['mutation', schema.getMutationType()],
  ['subscription', schema.getSubscriptionType()],
] as const
const fields = roots.flatMap(([operation, type]) =>
  Object.values(type?.getFields() ?? {}).map((field) => ({
    operation,
    name: field.name,
    document: documentOf(operation, field),
  })),
)

describe('a key without scopes is refused by every root field', () => {
  test.each(fields.filter(({ name }) => name !== 'viewer'))('$operation $name', async ({ operation, document }) => {
    expect(await (operation === 'subscription' ? streamCodes(document) : answerCodes(document))).toEqual(['FORBIDDEN'])
  })
  const codesOf = (errors: Answer['errors']): string[] => errors.map((error) => error.extensions.code)
  const answerCodes = async (document: string): Promise<string[]> =>
    codesOf((await plane.query(document, { token: powerless })).errors)
  const streamCodes = async (document: string): Promise<string[]> => {
    const frames: Frame[] = []
    for await (const frame of plane.subscribe(document, { token: powerless })) frames.push(frame)
    return codesOf(frames[0]?.data.errors)
  }
})

test('what a payload leads to keeps its own scope', async () => {
  const a = await plane.tenant()
  const token = await plane.key(a.id, { scopes: ['runs:read'] })
  const { errors } = await plane.query('{ viewer { tenant { adminEmail } } }', { token })
  expect(errors[0]?.extensions.code).toBe('FORBIDDEN')
})

function documentOf(operation: string, field: GraphQLField<unknown, unknown>): string {
  const args = field.args.filter(isRequiredArgument).map((arg) => `${arg.name}: ${literal(arg.type)}`)
  const type = getNamedType(field.type)
  const selection = isLeafType(type) ? '' : '{ __typename }'
  return `${operation} { ${field.name}${args.length > 0 ? `(${args.join(', ')})` : ''} ${selection} }`
}

function literal(type: GraphQLInputType): string {
  if (isNonNullType(type)) return literal(type.ofType)
  if (isListType(type)) return `[${literal(type.ofType)}]`
  if (isEnumType(type)) return type.getValues()[0]?.name ?? ''
  if (isInputObjectType(type)) {
    const parts = Object.values(type.getFields()).filter(isRequiredInputField)
    return `{ ${parts.map((part) => `${part.name}: ${literal(part.type)}`).join(', ')} }`
  }
  const literals: Record<string, string> = {
    Int: '1',
    Boolean: 'true',
    JSON: '{ a: 1 }',
    Date: '"2026-01-01"',
    DateTime: '"2026-01-01T00:00:00Z"',
    BigInt: '1',
  }
  return literals[type.name] ?? '"text"'
}
