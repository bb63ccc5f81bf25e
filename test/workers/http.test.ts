import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { exchange, untilAnswered } from '../../workers/http.ts'

const open = { signal: new AbortController().signal, allowPrivateNetwork: true }

async function served(listener: RequestListener): Promise<AsyncDisposable & { url: URL }> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

test('a redirect is an answer: nobody goes where it points', async () => {
  const asked: string[] = []
  await using server = await served((request, response) => {
    asked.push(request.url ?? '')
    response.writeHead(302, { location: 'http://169.254.169.254/latest' }).end()
  })
  expect((await exchange(open, { method: 'GET', url: server.url })).status).toBe(302)
  expect(asked).toEqual(['/'])
})

test('the name in the URL is what the server hears, and its address is what is connected to', async () => {
  await using server = await served((request, response) => void response.end(request.headers.host))
  const url = new URL(`http://localhost:${server.url.port}/`)
  expect((await exchange(open, { method: 'GET', url })).body.toString()).toBe(url.host)
})

test.each([
  ['http://127.0.0.1:1/', false],
  ['https://[::1]/', false],
  ['http://1.1.1.1/', true],
  ['https://169.254.169.254/', true],
  ['file:///etc/passwd', true],
])('%s is not opened (private addresses allowed: %s)', async (url, allowPrivateNetwork) => {
  const work = exchange({ ...open, allowPrivateNetwork }, { method: 'GET', url: new URL(url) })
  await expect(work).rejects.toMatchObject({ code: 'EGRESS_DENIED' })
})

test('an answer without end is cut off, and one that does not come is not waited for', async () => {
  await using server = await served((request, response) => {
    if (request.url === '/long') response.end('x'.repeat(1001))
  })
  const limits = { timeoutMs: 50, bytesMax: 1000 }
  const ask = (path: string) => exchange(open, { method: 'GET', url: new URL(path, server.url) }, limits)
  await expect(ask('/long')).rejects.toMatchObject({ code: 'TOO_LARGE' })
  await expect(ask('/never')).rejects.toMatchObject({
    code: 'CONNECTION_FAILED',
    message: expect.stringMatching(/in time/),
  })
})

test('an abort ends an exchange, and the wait before the next', async () => {
  await using server = await served((request, response) => {
    if (request.url === '/busy') response.writeHead(503, { 'retry-after': '50' }).end()
  })
  for (const path of ['/never', '/busy']) {
    const stop = new AbortController()
    const ctx = { ...open, signal: stop.signal }
    const asking = untilAnswered(ctx, () => exchange(ctx, { method: 'GET', url: new URL(path, server.url) }))
    setTimeout(() => stop.abort(), 50)
    await expect(asking).rejects.toMatchObject({ code: 'CANCELLED' })
  }
})

test('a moment to come back is compared with the clock of the server', async () => {
  let asked = 0
  await using server = await served((_request, response) => {
    const headers = { date: 'Sun, 01 Jan 2040 00:00:00 GMT', 'retry-after': 'Sun, 01 Jan 2040 00:00:00 GMT' }
    response.writeHead(asked++ < 4 ? 503 : 200, headers).end()
  })
  const begun = performance.now()
  const reply = await untilAnswered(open, () => exchange(open, { method: 'GET', url: server.url }))
  expect({ status: reply.status, asked }).toEqual({ status: 200, asked: 5 })
  // Without the header the waits would be 7.5 s in all.
  expect(performance.now() - begun).toBeLessThan(7000)
})
