import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { people } from '../support/people.ts'

let plane: ControlPlane
beforeAll(async () => {
  plane = await controlPlane()
})
afterAll(() => plane[Symbol.asyncDispose]())

const ask = async (body: unknown, init: RequestInit = {}): Promise<{ status: number; text: string }> => {
  const response = await plane.app.fetch(
    new Request('http://edge.example/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...init,
    }),
  )
  return { status: response.status, text: (await response.text()).replaceAll(/req_[0-9a-f]+/g, 'req') }
}
const login = (rest = '{ errors { code } }', args = '(input: { tenantId: "t", email: "e", password: "p" })'): string =>
  `login${args} ${rest}`
const noKey = JSON.stringify({
  errors: [
    {
      message: 'This request carries no key or token.',
      extensions: {
        code: 'UNAUTHENTICATED',
        hint: 'Send a valid API key or access token: Authorization: Bearer <key or token>.',
        requestId: 'req',
      },
    },
  ],
})

describe('a stranger gets the same answer for everything but one mutation of the list', () => {
  const long = `mutation { ${login()} } # ${'x'.repeat(17_000)}`
  test.each([
    ['a query', '{ viewer { tenantId } }'],
    ['a field that there is not', '{ noSuchField }'],
    ['no document', '{{{'],
    ['nothing', ''],
    ['the type of the root', '{ __typename }'],
    ['introspection', '{ __schema { types { name } } }'],
    ['introspection of a type', '{ __type(name: "Tenant") { name } }'],
    ['introspection as a mutation', 'mutation { __schema { types { name } } }'],
    ['the type of the mutations', 'mutation { __typename }'],
    ['a subscription', 'subscription { runEvents(runId: "run_1") { type } }'],
    ['another mutation', 'mutation { logout(input: {}) { ended } }'],
    ['a mutation of the platform', 'mutation { suspendTenant(input: { tenantId: "a" }) { errors { code } } }'],
    ['two of the list', `mutation { a: ${login()} b: ${login()} }`],
    ['one of the list and another', `mutation { ${login()} logout(input: {}) { ended } }`],
    ['one of the list twice', `mutation { ${login()} ${login()} }`],
    ['one of the list with the type', `mutation { ${login()} __typename }`],
    ['an alias', `mutation { x: ${login()} }`],
    ['another under the name of the list', 'mutation { login: logout(input: {}) { ended } }'],
    ['two operations', `mutation A { ${login()} } query B { viewer { tenantId } }`],
    ['a query of that name', `{ ${login()} }`],
    ['a fragment', `mutation { ...F } fragment F on Mutation { ${login()} }`],
    ['a fragment beside it', `mutation { ${login('{ ...F }')} } fragment F on SessionPayload { errors { code } }`],
    ['an inline fragment', `mutation { ... on Mutation { ${login()} } }`],
    ['a directive', `mutation { ${login('@include(if: true) { errors { code } }')} }`],
    ['a directive of the operation', `mutation @skip(if: false) { ${login()} }`],
    ['a field that the payload has not', `mutation { ${login('{ nothing }')} }`],
    ['a type that there is', `mutation { ${login('{ ... on Tenant { id } }')} }`],
    ['a type that there is not', `mutation { ${login('{ ... on NoSuchType { id } }')} }`],
    ['a variable of a type that there is', `mutation ($x: OnboardTenantInput) { ${login()} }`],
    ['an argument that it has not', `mutation { ${login(undefined, '(x: 1)')} }`],
    ['a wrong argument', `mutation { ${login(undefined, '(input: { tenantId: 1 })')} }`],
    ['a definition of a type', `mutation { ${login()} } type X { a: Int }`],
    ['a long document', long],
    ['many tokens', `mutation { ${login(`{ ${'errors { code } '.repeat(60)} }`)} }`],
  ])('%s', async (_name, query) => {
    expect(await ask({ query })).toEqual({ status: 401, text: noKey })
  })

  test.each([
    ['a list of requests', [{ query: `mutation { ${login()} }` }]],
    ['no query', { variables: {} }],
    ['a persisted query', { extensions: { persistedQuery: { version: 1, sha256Hash: 'a' } } }],
    ['text', '"text"'],
    ['no JSON', 'mutation'],
  ])('a body of %s', async (_name, body) => {
    expect(await ask(body)).toEqual({ status: 401, text: noKey })
  })

  test('a GET', async () => {
    const query = encodeURIComponent(`mutation { ${login()} }`)
    const response = await plane.app.fetch(new Request(`http://edge.example/graphql?query=${query}`))
    expect(response.status).toBe(401)
    const inBoth = await plane.app.fetch(
      new Request(`http://edge.example/graphql?query=${encodeURIComponent('{ viewer { tenantId } }')}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query: `mutation { ${login()} }` }),
      }),
    )
    expect(await inBoth.text()).not.toContain('tenantId')
  })
})

test('who brings a wrong key or token is refused for it, also on the way in', async () => {
  const bearers: Record<string, string>[] = [{ authorization: 'Bearer x' }, { 'x-api-key': '' }, { authorization: '' }]
  for (const headers of bearers) {
    const { status, text } = await ask(
      { query: `mutation { ${login()} }` },
      { headers: { 'content-type': 'application/json', ...headers } },
    )
    expect(status).toBe(401)
    expect(text).not.toContain('password')
  }
})

test('with variables, a name and whatever the payload has it is answered', async () => {
  const a = await plane.tenant()
  const { tenantId, email, password } = await people(plane).signUp(a)
  const { status, text } = await ask({
    operationName: 'SignIn',
    query: `mutation SignIn($input: LoginInput!) { login(input: $input) { __typename tokens { accessToken session { id } } errors { code ... on RateLimitError { retryAfterSeconds } } } }`,
    variables: { input: { tenantId, email, password } },
    extensions: {},
  })
  expect(status).toBe(200)
  expect(JSON.parse(text).data.login.tokens.accessToken).toMatch(/^eyJ/)
})

test('a value of a wrong form is refused without being repeated', async () => {
  const { text } = await ask({
    query: 'mutation ($input: LoginInput!) { login(input: $input) { errors { code } } }',
    variables: { input: { tenantId: 'a', email: 'b', password: { canary: 'canary-77' } } },
  })
  expect(text).toContain('BAD_INPUT')
  expect(text).not.toContain('canary-77')
})
