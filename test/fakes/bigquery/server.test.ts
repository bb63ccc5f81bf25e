import { importPKCS8, SignJWT } from 'jose'
import { expect, test } from 'vitest'
import { fakeBigQuery, type FakeBigQuery } from './server.ts'

const reading = 'https://www.googleapis.com/auth/bigquery.readonly'
const query = {
  query: 'SELECT 1',
  useLegacySql: false,
  requestId: 'r1',
  maxResults: 10,
  timeoutMs: 0,
  formatOptions: { useInt64Timestamp: true },
}

async function tokenOf(server: FakeBigQuery, claims: object = {}): Promise<Response> {
  const { secret } = server
  const key = await importPKCS8(secret['private_key'] ?? '', 'RS256')
  const now = Math.floor(Date.now() / 1000)
  const all = { iss: secret['client_email'], aud: secret['token_uri'], iat: now, exp: now + 3600, scope: reading }
  const assertion = await new SignJWT({ ...all, ...claims }).setProtectedHeader({ alg: 'RS256' }).sign(key)
  const grant = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
  return fetch(secret['token_uri'] ?? '', {
    method: 'POST',
    body: new URLSearchParams({ grant_type: grant, assertion }),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  })
}

async function call(server: FakeBigQuery, path: string, body?: object, method = 'POST'): Promise<number> {
  const { access_token: token } = (await (await tokenOf(server)).json()) as { access_token: string }
  const reply = await fetch(`${server.secret['api_url']}/bigquery/v2/projects/my-project-1/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  await reply.arrayBuffer()
  return reply.status
}

test('a claim that is wrong, unknown or too long gives no token', async () => {
  await using server = await fakeBigQuery()
  expect((await tokenOf(server)).status).toBe(200)
  const far = Math.floor(Date.now() / 1000) + 7200
  const faults = [{ iss: 'x' }, { aud: 'x' }, { scope: 'x' }, { exp: far }, { exp: 1 }, { scopes: reading }]
  for (const claims of faults) expect((await tokenOf(server, claims)).status).toBe(400)
})

test('what the contract does not know is refused', async () => {
  await using server = await fakeBigQuery()
  const page = 'queries/job_1?location=europe-west1&maxResults=10&timeoutMs=0&formatOptions.useInt64Timestamp=true'
  expect(await call(server, 'queries', query)).toBe(200)
  expect(await call(server, page, undefined, 'GET')).toBe(200)
  expect(await call(server, 'queries', { ...query, unknown: 1 })).toBe(400)
  expect(await call(server, 'queries', { ...query, query: 'SELECT @p1' })).toBe(400)
  expect(await call(server, 'queries', { ...query, parameterMode: 'POSITIONAL' })).toBe(400)
  expect(await call(server, `${page}&unknown=1`, undefined, 'GET')).toBe(400)
  expect(await call(server, `${page}&pageToken=x`, undefined, 'GET')).toBe(400)
  expect(await call(server, page.replace('location=europe-west1&', ''), undefined, 'GET')).toBe(404)
  expect(await call(server, page.replace('job_1', 'job_2'), undefined, 'GET')).toBe(404)
  expect(await call(server, 'jobs', {})).toBe(404)
  // A token to read cannot cancel.
  expect(await call(server, 'jobs/job_1/cancel?location=europe-west1')).toBe(403)
})
