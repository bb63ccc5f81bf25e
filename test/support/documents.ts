import {
  type GraphQLField,
  type GraphQLInputType,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  isRequiredArgument,
  isRequiredInputField,
} from 'graphql'
import { schema } from '../../control-plane/graphql/schema.ts'
import type { ControlPlane, Frame } from './control-plane.ts'

const roots = [
  ['query', schema.getQueryType()],
  ['mutation', schema.getMutationType()],
  ['subscription', schema.getSubscriptionType()],
] as const

/** Every root field of the API with a document that asks for it, required arguments filled with anything that fits. */
export const rootDocuments = roots.flatMap(([operation, type]) =>
  Object.values(type?.getFields() ?? {}).map((field) => ({
    operation,
    name: field.name,
    document: documentOf(operation, field),
  })),
)

/** Codes of the errors that a key gets for such a document; refusals in a payload are not among them. */
export async function codesOf(
  plane: ControlPlane,
  { operation, document }: (typeof rootDocuments)[number],
  token: string,
): Promise<string[]> {
  if (operation !== 'subscription')
    return (await plane.query(document, { token })).errors.map((error) => error.extensions.code)
  // A stream that is open to the key need not end by itself: what it says first tells.
  const frames = plane.subscribe(document, { token })
  const first: IteratorResult<Frame, unknown> = await frames.next()
  await frames.return(undefined)
  const errors: { extensions: { code: string } }[] = first.done ? [] : (first.value.data.errors ?? [])
  return errors.map((error) => error.extensions.code)
}

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
