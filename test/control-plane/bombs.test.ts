import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { getIntrospectionQuery } from 'graphql'
import type { App } from '../../control-plane/app.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'

let plane: ControlPlane
let app: App
let a: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  app = plane.appWith({ rateLimit: { take: () => Promise.reject(new Error('not here')) } }, { log: quiet })
})
afterAll(() => plane[Symbol.asyncDispose]())
const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }

const times = (count: number, one: (index: number) => string): string =>
  Array.from({ length: count }, (_, i) => one(i)).join(' ')
const nested = (depth: number): string => `${'{ x '.repeat(depth)}${'}'.repeat(depth)}`
const page = 'nodes { logs(first: 100) { nodes { seq } } events(first: 100) { nodes { seq } } }'
const lists = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)

type Shape = { query?: string; variables?: unknown; operationName?: string; body?: string }
type Code = 'TOO_LARGE' | 'BAD_INPUT'
/** What hostile callers send, after graphql-cop, DVGA and CVEs of GraphQL servers, and how each is refused. */
const bombs: Record<string, [Code, Shape]> = {
  'fields nested too deeply': ['TOO_LARGE', { query: nested(13) }],
  'fields nested as deeply as there are tokens': ['TOO_LARGE', { query: nested(330) }],
  'depth by fragments': [
    'TOO_LARGE',
    {
      query: `{ ...A } fragment A on Query ${nested(6).replace('{ x }', '{ x { ...B } }')} fragment B on Query ${nested(7)}`,
    },
  ],
  'alias overload': ['TOO_LARGE', { query: `{ ${times(31, (i) => `a${i}: viewer { keyId }`)} }` }],
  'alias overload by a fragment': [
    'TOO_LARGE',
    {
      query: `{ ...A ...A ...B } fragment A on Query { ${times(11, (i) => `a${i}: viewer { keyId }`)} } fragment B on Query { ...A }`,
    },
  ],
  'aliases of mutations, to guess': [
    'TOO_LARGE',
    { query: `mutation { ${times(11, (i) => `a${i}: cancelRun(input: { id: "run_${i}" }) { errors { code } }`)} }` },
  ],
  'an array of requests': ['BAD_INPUT', { body: `[${Array(100).fill('{"query":"{ __typename }"}').join(',')}]` }],
  'circular fragments': ['BAD_INPUT', { query: '{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }' }],
  'a fragment that holds itself': ['BAD_INPUT', { query: '{ ...A } fragment A on Query { viewer { keyId } ...A }' }],
  'a circle that nothing uses': ['BAD_INPUT', { query: '{ __typename } fragment A on Query { __typename ...A }' }],
  'a fragment bomb of 980 bytes': ['TOO_LARGE', { query: fragmentBomb(23) }],
  'a fragment bomb without a field': [
    'TOO_LARGE',
    { query: `{ ...F0 } ${times(40, (i) => `fragment F${i} on Query { ...F${i + 1} ...F${i + 1} }`)}` },
  ],
  'a bomb of inline fragments': [
    'TOO_LARGE',
    { query: `{ ${'... { '.repeat(300)} __typename ${'} '.repeat(300)} ${times(300, () => '... { a }')} }` },
  ],
  'directive overload in one place': ['TOO_LARGE', { query: `{ __typename ${'@aa'.repeat(400)} }` }],
  'directive overload in many places': ['TOO_LARGE', { query: `{ ${times(21, (i) => `x${i} @skip(if: false)`)} }` }],
  'field duplication': ['TOO_LARGE', { query: `{ ${times(300, () => 'viewer { keyId }')} }` }],
  'field duplication without more': ['TOO_LARGE', { query: `{ ${'__typename '.repeat(900)} }` }],
  'overlapping fields, which are compared in pairs': [
    'TOO_LARGE',
    { query: `{ ${times(22, (i) => `viewer { tenant { ${times(4, (j) => `x${i}${j}`)} } }`)} }` },
  ],
  'overlapping fields that double at each level': [
    'TOO_LARGE',
    {
      query: `{ ...F0 } ${times(12, (i) => `fragment F${i} on Query { x { ...F${i + 1} } x { ...F${i + 1} } }`)} fragment F12 on Query { x }`,
    },
  ],
  'overlapping fields through many fragments': [
    'TOO_LARGE',
    {
      query: `{ ${times(45, (i) => `...F${i}`)} } ${times(45, (i) => `fragment F${i} on Query { ${times(45 - i, (j) => `...F${i + j + 1}`)} x }`).slice(0, 9000)} }`,
    },
  ],
  'deep introspection': [
    'TOO_LARGE',
    { query: `{ __schema { types { ${'fields { type { '.repeat(6)} name ${'} } '.repeat(6)} } } }` },
  ],
  'deep introspection of types of types': [
    'TOO_LARGE',
    { query: `{ __type(name: "Query") { ${'ofType { '.repeat(60)} name ${'} '.repeat(60)} } }` },
  ],
  'introspection under another name': [
    'TOO_LARGE',
    {
      query: `{ s: __schema { types { ${'i: interfaces { p: possibleTypes { '.repeat(3)} name ${'} } '.repeat(3)} } } }`,
    },
  ],
  'too many tokens': ['TOO_LARGE', { query: `{ ${'viewer { keyId } '.repeat(300)} }` }],
  'a document of comments': ['TOO_LARGE', { query: `{ __typename }${'#\n'.repeat(100_000)}` }],
  'a document of commas': ['TOO_LARGE', { query: `{ __typename ${','.repeat(200_000)} }` }],
  'a long name': ['TOO_LARGE', { query: `{ ${'a'.repeat(30_000)} }` }],
  'long names, for which suggestions are sought': [
    'TOO_LARGE',
    { query: `{ ${times(100, (i) => `${'viewer'.repeat(40)}${i}`)} }` },
  ],
  'many wrong names': ['BAD_INPUT', { query: `{ ${times(30, (i) => `viewr${i}`)} }` }],
  'many operations': ['TOO_LARGE', { query: times(100, (i) => `query Q${i} { __typename }`), operationName: 'Q1' }],
  'many root fields': ['TOO_LARGE', { query: `{ ${times(40, (i) => `f${i}`)} }` }],
  'unused fragments': [
    'TOO_LARGE',
    { query: `{ __typename } ${times(100, (i) => `fragment F${i} on Query { __typename }`)}` },
  ],
  'unicode outside of strings': ['BAD_INPUT', { query: '{ vi\u{1F4A3}wer ‮ }' }],
  'lone surrogates': ['BAD_INPUT', { body: '{"query":"{ viewer\\ud800 { keyId } }"}' }],
  'a list literal nested deeply': [
    'TOO_LARGE',
    { query: `{ runs(filter: { states: ${lists(400)} }) { nodes { id } } }` },
  ],
  'a list literal that is long': [
    'TOO_LARGE',
    { query: `{ runs(filter: { states: [${'FAILED '.repeat(251)}] }) { nodes { id } } }` },
  ],
  'a long list in variables': [
    'TOO_LARGE',
    {
      query: 'query ($f: RunFilter) { runs(filter: $f) { nodes { id } } }',
      variables: { f: { states: Array(251).fill('FAILED') } },
    },
  ],
  'huge variables': [
    'TOO_LARGE',
    { query: '{ __typename }', variables: Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`v${i}`, 1])) },
  ],
  'variables nested deeply': ['TOO_LARGE', { body: `{"query":"{ __typename }","variables":{"x":${lists(50_000)}}}` }],
  'a body nested deeply': ['TOO_LARGE', { body: lists(100_000) }],
  'a body of 10 MB': ['TOO_LARGE', { query: '{ __typename }', variables: { x: 'x'.repeat(10_000_000) } }],
  'nested pages': ['TOO_LARGE', { query: `{ runs(first: 100) { ${page} } }` }],
  'nested pages by variable': [
    'TOO_LARGE',
    { query: `query ($n: Int) { runs(first: $n) { ${page.replaceAll('100', '$n')} } }`, variables: { n: 100 } },
  ],
  'nested pages by the default of a variable': [
    'TOO_LARGE',
    { query: `query ($n: Int = 100) { runs(first: $n) { ${page.replaceAll('100', '$n')} } }` },
  ],
  'nested pages whose items a fragment names': [
    'TOO_LARGE',
    {
      query: `{ runs(first: 100) { ...P } } fragment P on PipelineRunConnection { ...N } fragment N on PipelineRunConnection { ${page} }`,
    },
  ],
}

// Each fragment twice in the one before: 2^n fields of a few hundred bytes.
function fragmentBomb(length: number): string {
  const chain = times(length, (i) => `fragment F${i} on Query{...F${i + 1} ...F${i + 1}}`)
  return `{...F0}${chain} fragment F${length} on Query{viewer{keyId}}`
}

const requestOf = ({ body, ...shape }: Shape): Request =>
  new Request('http://edge.example/graphql', {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${a.token}`,
      'content-length': String(sizeOf({ body, ...shape })),
    },
    body: body ?? JSON.stringify(shape),
  })
const sizeOf = ({ body, ...shape }: Shape): number => Buffer.byteLength(body ?? JSON.stringify(shape))

async function send(shape: Shape): Promise<{ cpuMs: number; text: string }> {
  const request = requestOf(shape)
  const before = process.cpuUsage()
  const response = await app.fetch(request)
  const text = await response.text()
  const { user, system } = process.cpuUsage(before)
  return { cpuMs: (user + system) / 1000, text }
}

const median = (values: number[]): number => values.toSorted((x, y) => x - y)[Math.floor(values.length / 2)] ?? 0

async function cpuOf(shape: Shape, rounds: number): Promise<number> {
  const spent: number[] = []
  for (let round = 0; round < rounds; round++) spent.push((await send(shape)).cpuMs)
  return median(spent)
}

describe('is refused:', () => {
  test.for(Object.entries(bombs))('%s', async ([, [code, shape]]) => {
    const { text } = await send(shape)
    const { data, errors } = JSON.parse(text)
    expect(data ?? null).toBeNull()
    expect(errors.map(({ extensions }: { extensions: { code: string } }) => extensions.code)).toContain(code)
    expect(errors[0].message).toMatch(code === 'TOO_LARGE' ? /\d+.*\d+/ : /./)
  })
})

test('none costs more than five times what the smallest good document costs', async () => {
  const smallest: Shape = { query: '{ __typename }' }
  const rounds = 15
  // Everything is compiled first: code that ran once is slower than code that ran often.
  for (const shape of [smallest, ...Object.values(bombs).map(([, bomb]) => bomb)]) await cpuOf(shape, 8)
  const dear: string[] = []
  for (const [name, [, shape]] of Object.entries(bombs)) {
    const small = await cpuOf(smallest, rounds)
    const spent = await cpuOf(shape, rounds)
    if (spent > 5 * small) dear.push(`${name}: ${spent.toFixed(2)} ms beside ${small.toFixed(2)} ms`)
  }
  expect(dear).toEqual([])
}, 60_000)

describe('is answered:', () => {
  const good: Record<string, Shape> = {
    'the question of every tool for the whole schema': {
      query: getIntrospectionQuery({ inputValueDeprecation: true, oneOf: true }),
    },
    'as many aliases as there may be': { query: `{ ${times(30, (i) => `a${i}: viewer { keyId }`)} }` },
    'a page of pages': { query: '{ runs(first: 50) { nodes { events(first: 100) { nodes { seq } } } } }' },
    'the same field in several fragments': {
      query: `{ runs { nodes { ...A ...B ...C } } } ${['A', 'B', 'C'].map((name) => `fragment ${name} on PipelineRun { id state steps { key error { code } } }`).join(' ')}`,
    },
    'all kinds of refusal spelled out': {
      query:
        'mutation { cancelRun(input: { id: "run_x" }) { errors { code message ... on ValidationError { code file } ... on QuotaError { code limit } ... on RateLimitError { code retryAfterSeconds } ... on VersionConflict { code currentVersion } } } }',
    },
    'a list that is as long as lists may be': {
      query: 'query ($f: RunFilter) { runs(filter: $f) { nodes { id } } }',
      variables: { f: { states: Array(250).fill('FAILED') } },
    },
    'a file of 200 KB in a variable': {
      query: 'mutation ($i: ValidatePipelineInput!) { validatePipeline(input: $i) { isValid } }',
      variables: { i: { yaml: `# ${'x'.repeat(200_000)}` } },
    },
  }
  test.for(Object.entries(good))('%s', async ([, shape]) => {
    const { errors, data } = JSON.parse((await send(shape)).text)
    expect(errors).toBeUndefined()
    expect(data).toBeTruthy()
  })
})

test('at the limit of depth the rules of the language have the word', async () => {
  const answer = await plane.query(nested(12), { token: a.token, app })
  expect(answer.errors.map(({ extensions }) => extensions.code)).toContain('BAD_INPUT')
})
