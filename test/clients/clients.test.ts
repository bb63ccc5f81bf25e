import {
  ApolloClient,
  ApolloLink,
  CombinedGraphQLErrors,
  gql,
  HttpLink,
  InMemoryCache,
  Observable,
} from '@apollo/client'
import { cacheExchange, Client as UrqlClient, fetchExchange } from '@urql/core'
import { type ASTNode, print } from 'graphql'
import { ClientError, GraphQLClient } from 'graphql-request'
import { createClient as createSseClient } from 'graphql-sse'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { RunEvents, RunPipeline, Viewer } from '../../schema/operations/index.ts'
import { type TestTenant, world } from '../support/world.ts'

let house: Awaited<ReturnType<typeof world>>
let tenant: TestTenant & { token?: string }
let url: string
let headers: Record<string, string>
beforeAll(async () => {
  house = await world()
  tenant = await house.tenant('others_tenant')
  url = `${house.house.url}/graphql`
  headers = { authorization: `Bearer ${tenant.token}` }
  await tenant.save(
    'test/clients/one',
    'pipeline_id: one\nsteps:\n  - step_id: one\n    ps_type: sql.transform\n    query: SELECT 1 AS n\n    destination: { table: one, mode: replace }\n',
  )
})
afterAll(() => house[Symbol.asyncDispose]())

const input = { pipeline: 'test/clients/one' }
const missing = { id: `run_${'0'.repeat(32)}` }
const runQuery = 'query Run($id: ID!) { run(id: $id) { id } }'
const wrong = { authorization: 'Bearer key_0.0' }
const ends = (types: string[]): unknown[] => [types[0], types.at(-1)]
const whole = ['run.queued', 'run.succeeded']

describe('graphql-request', () => {
  const client = (other = headers) => new GraphQLClient(url, { headers: other })

  test('query and mutation', async () => {
    expect(await client().request(Viewer.text)).toMatchObject({ viewer: { tenantId: tenant.id } })
    expect(await client().request(RunPipeline.text, { input })).toMatchObject({
      runPipeline: { created: true, errors: [] },
    })
  })

  test('errors with their codes', async () => {
    const absent = await client()
      .request(runQuery, missing)
      .catch((error: unknown) => error)
    const stranger = await client(wrong)
      .request(Viewer.text)
      .catch((error: unknown) => error)
    for (const [error, code] of [
      [absent, 'NOT_FOUND'],
      [stranger, 'UNAUTHENTICATED'],
    ] as const) {
      expect(error).toBeInstanceOf(ClientError)
      expect(error).toMatchObject({ response: { errors: [{ extensions: { code, hint: expect.any(String) } }] } })
    }
  })
})

describe('graphql-sse', () => {
  test('query, mutation and subscription', async () => {
    const client = createSseClient({ url, headers })
    const first = await client.iterate({ query: Viewer.text }).next()
    expect(first.value).toMatchObject({ data: { viewer: { tenantId: tenant.id } } })
    const started = await client.iterate({ query: RunPipeline.text, variables: { input } }).next()
    expect(started.value).toMatchObject({ data: { runPipeline: { created: true } } })
    const runId = await tenant.start(input.pipeline)
    const types: string[] = []
    for await (const { data } of client.iterate<{ runEvents: { type: string } }>({
      query: RunEvents.text,
      variables: { runId },
    }))
      if (data) types.push(data.runEvents.type)
    expect(ends(types)).toEqual(whole)
    client.dispose()
  })

  test('errors of a subscription reach whoever iterates', async () => {
    const absent = await createSseClient({ url, headers, retryAttempts: 0 })
      .iterate({ query: RunEvents.text, variables: { runId: missing.id } })
      .next()
    expect(absent.value).toMatchObject({ errors: [{ extensions: { code: 'NOT_FOUND' } }] })
    const stranger = createSseClient({ url, headers: wrong, retryAttempts: 0 }).iterate({ query: Viewer.text }).next()
    await expect(stranger).rejects.toMatchObject({ response: { status: 401 } })
  })
})

describe('urql', () => {
  const client = (other = headers) =>
    new UrqlClient({
      url,
      preferGetMethod: false,
      exchanges: [cacheExchange, fetchExchange],
      fetchOptions: { headers: other },
      fetchSubscriptions: true,
    })

  test('query and mutation', async () => {
    expect((await client().query(Viewer.text, {})).data).toMatchObject({ viewer: { tenantId: tenant.id } })
    const { data, error } = await client().mutation(RunPipeline.text, { input })
    expect(error).toBeUndefined()
    expect(data).toMatchObject({ runPipeline: { created: true } })
  })

  test('errors with their codes', async () => {
    const absent = await client().query(runQuery, missing)
    expect(absent.error?.graphQLErrors[0]?.extensions).toMatchObject({ code: 'NOT_FOUND' })
    const stranger = await client(wrong).query(Viewer.text, {})
    expect(stranger.error?.graphQLErrors[0]?.extensions).toMatchObject({ code: 'UNAUTHENTICATED' })
  })

  test('a subscription by its own fetch exchange', async () => {
    const runId = await tenant.start(input.pipeline)
    const types: string[] = []
    await new Promise<void>((resolve) => {
      client()
        .subscription(RunEvents.text, { runId })
        .subscribe(({ data }) => {
          types.push(data?.runEvents.type ?? 'nothing')
          // The server ends the stream: leaving it here would have urql 6 reject a promise that nobody holds.
          if (types.at(-1) === 'run.succeeded') resolve()
        })
    })
    expect(ends(types)).toEqual(whole)
  })
})

describe('Apollo Client', () => {
  // As the page of graphql-sse says it.
  class SseLink extends ApolloLink {
    readonly #client = createSseClient({ url, headers })
    override request({ query, variables, operationName }: ApolloLink.Operation): Observable<ApolloLink.Result> {
      return new Observable((sink) =>
        this.#client.subscribe<Record<string, unknown>>(
          { query: print(query as ASTNode), variables, ...(operationName ? { operationName } : {}) },
          {
            next: (result) => sink.next(result as ApolloLink.Result),
            error: (error) => sink.error(error),
            complete: () => sink.complete(),
          },
        ),
      )
    }
  }
  const client = (other = headers) =>
    new ApolloClient({
      cache: new InMemoryCache(),
      link: ApolloLink.split(
        ({ operationType }) => String(operationType) === 'subscription',
        new SseLink(),
        new HttpLink({ uri: url, headers: other }),
      ),
    })

  test('query and mutation', async () => {
    const { data } = await client().query({ query: gql(Viewer.text) })
    expect(data).toMatchObject({ viewer: { tenantId: tenant.id } })
    const started = await client().mutate({ mutation: gql(RunPipeline.text), variables: { input } })
    expect(started.data).toMatchObject({ runPipeline: { created: true, errors: [] } })
  })

  test('errors with their codes', async () => {
    const ask = (other: Record<string, string>, document: string, variables: object): Promise<unknown> =>
      client(other)
        .query({ query: gql(document), variables })
        .catch((error: unknown) => error)
    for (const [error, code] of [
      [await ask(headers, runQuery, missing), 'NOT_FOUND'],
      [await ask(wrong, Viewer.text, {}), 'UNAUTHENTICATED'],
    ] as const) {
      expect(CombinedGraphQLErrors.is(error)).toBe(true)
      expect(error).toMatchObject({ errors: [{ extensions: { code } }] })
    }
  })

  test('a subscription through graphql-sse', async () => {
    const runId = await tenant.start(input.pipeline)
    const types: string[] = []
    await new Promise<void>((resolve, reject) => {
      client()
        .subscribe<{ runEvents: { type: string } }>({ query: gql(RunEvents.text), variables: { runId } })
        .subscribe({
          next: ({ data }) => void types.push(data?.runEvents.type ?? 'nothing'),
          error: reject,
          complete: resolve,
        })
    })
    expect(ends(types)).toEqual(whole)
  })
})
