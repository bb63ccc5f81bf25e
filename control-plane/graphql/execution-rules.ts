import {
  type DocumentNode,
  type FragmentDefinitionNode,
  getNamedType,
  getOperationAST,
  type GraphQLSchema,
  isInputObjectType,
  Kind,
  type OperationDefinitionNode,
} from 'graphql'
import type { Plugin } from 'graphql-yoga'
import { AppError } from '../../shared/errors.ts'
import type { Context } from '../context.ts'
import type { Admission } from '../http/admit.ts'
import { costMax, costOf, pointsOf } from './cost.ts'
import { fieldsOf, tooLarge } from './limits.ts'

/**
 * What an operation pays before it runs, and how long it may: its cost is bounded and taken from the limits of the caller,
 * and a query or mutation ends after `waits.executionMs`. A field whose `extensions.waits` is n may wait n times as long as for a
 * worker beside that.
 */
export const executionRules = (admission: Admission): Plugin<Context, Context> => ({
  async onExecute({ args, executeFn, setExecuteFn, setResultAndStopExecution }) {
    const { contextValue: context, document } = args
    const refused = await charge(context, args.schema, args, admission)
    if (refused) return setResultAndStopExecution({ errors: [refused] })
    const unkeyed = faultOfKey(context, args.schema, args)
    if (unkeyed) return setResultAndStopExecution({ errors: [unkeyed] })
    const timeoutMs = timeoutOf(context, args.schema, document, args.operationName)
    // Envelop calls its executor with the arguments alone.
    setExecuteFn(((given: typeof args) => inTime(context, timeoutMs, () => executeFn(given))) as typeof executeFn)
  },
  async onSubscribe({ args, setResultAndStopExecution }) {
    const refused = await charge(args.contextValue, args.schema, args, admission)
    if (refused) setResultAndStopExecution({ errors: [refused] })
  },
})

type Asked = { document: DocumentNode; operationName?: unknown; variableValues?: unknown }

// The first point was taken when the request came in.
async function charge(
  context: Context,
  schema: GraphQLSchema,
  { document, operationName, variableValues }: Asked,
  admission: Admission,
): Promise<Error | undefined> {
  const operation = getOperationAST(document, typeof operationName === 'string' ? operationName : undefined)
  if (!operation) return undefined
  const variables = typeof variableValues === 'object' && variableValues !== null ? variableValues : {}
  const cost = costOf(schema, operation, fragmentsOf(document), { ...variables })
  context.spending.cost = cost
  if (cost > costMax) return tooLarge(`This ${operation.operation} has a cost of ${cost}; ${costMax} is the limit.`)
  const more = pointsOf(cost) - 1
  if (more === 0) return undefined
  return admission.take(context, more).then(
    () => undefined,
    (error: unknown) => {
      if (error instanceof AppError) return error
      throw error
    },
  )
}

// The key of the header is that of the one mutation in the document.
function faultOfKey(context: Context, schema: GraphQLSchema, { document, operationName }: Asked): AppError | undefined {
  const { key } = context.idempotency
  const operation = getOperationAST(document, typeof operationName === 'string' ? operationName : undefined)
  if (key === undefined || operation?.operation !== 'mutation') return undefined
  const [one, ...others] = fieldsOf([operation.selectionSet], fragmentsOf(document)).values()
  if (!one?.[0] || others.length > 0)
    return new AppError('BAD_INPUT', 'The header Idempotency-Key is for documents with one mutation.', {
      hint: 'Give each mutation an idempotencyKey of its own in its input.',
    })
  const field = schema.getMutationType()?.getFields()[one[0].name.value]
  const input = field && getNamedType(field.args.find(({ name }) => name === 'input')?.type)
  if (!isInputObjectType(input) || !Object.hasOwn(input.getFields(), 'idempotencyKey'))
    return new AppError('BAD_INPUT', `${one[0].name.value} takes no idempotency key.`, {
      hint: 'Leave out the header Idempotency-Key.',
    })
  return undefined
}

function timeoutOf(context: Context, schema: GraphQLSchema, document: DocumentNode, name: unknown): number {
  const { executionMs, provisionMs } = context.waits
  const operation = getOperationAST(document, typeof name === 'string' ? name : undefined)
  return executionMs + (operation ? waitsOf(schema, operation, document) : 0) * provisionMs
}

// Mutations run one after the other, so their waits add up.
function waitsOf(schema: GraphQLSchema, operation: OperationDefinitionNode, document: DocumentNode): number {
  const fields = schema.getRootType(operation.operation)?.getFields() ?? {}
  let waits = 0
  for (const [field] of fieldsOf([operation.selectionSet], fragmentsOf(document)).values()) {
    const own = field && fields[field.name.value]?.extensions['waits']
    if (typeof own === 'number') waits += own
  }
  return waits
}

const fragmentsOf = (document: DocumentNode): Map<string, FragmentDefinitionNode> =>
  new Map(
    document.definitions.flatMap((definition) =>
      definition.kind === Kind.FRAGMENT_DEFINITION ? [[definition.name.value, definition]] : [],
    ),
  )

// Who is late is told at once; what still runs hears it by the signal, and opens no further transaction.
async function inTime<T>(context: Context, timeoutMs: number, work: () => T | Promise<T>): Promise<T> {
  const over = new AbortController()
  const late = context.ports.clock.sleep(timeoutMs, over.signal).then(() => {
    if (over.signal.aborted) return undefined
    const error = new AppError('TIMED_OUT', `This request took longer than ${timeoutMs / 1000} s.`, {
      hint: 'Ask for less at once. What it was changing may still be done: look before you repeat it, or repeat it with its idempotency key.',
    })
    context.stop(error)
    return error
  })
  const done = Promise.resolve(work())
  done.catch(() => undefined)
  try {
    const first = await Promise.race([done, late])
    // The executor's answer is never undefined, nor an AppError.
    return first instanceof AppError ? ({ errors: [first] } as T) : (first as T)
  } finally {
    // With a reason: without one an exception is made, with its stack, for nobody.
    over.abort('over')
  }
}
