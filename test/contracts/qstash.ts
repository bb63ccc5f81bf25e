import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Client, Receiver } from '@upstash/qstash'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openQStash } from '../../shared/qstash/client.ts'
import { ensureSchedules } from '../../shared/qstash/ensure-schedules.ts'
import { until } from '../support/control-plane.ts'

/** A QStash to be held to the contract. Without `delivers` it cannot reach this machine, and what needs that is left out. */
export type QStashAccount = {
  url: string
  token: string
  keys: { current: string; next: string }
  delivers: boolean
  /** Fires a schedule now; undefined where only time does. */
  fire?: (scheduleId: string) => Promise<void>
}

/** What the product counts on, by the library of QStash itself. `open` is asked once; `left` says why it is left out. */
export function qstashContract(
  name: string,
  open: () => Promise<QStashAccount & AsyncDisposable>,
  left?: string,
): void {
  describe.skipIf(left !== undefined)(`${name}${left === undefined ? '' : `, left out: ${left}`}`, () => {
    const came: { headers: IncomingHttpHeaders; body: string }[] = []
    let status = 200
    let answerHeaders: Record<string, string> = {}
    const server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        came.push({ headers: request.headers, body: Buffer.concat(chunks).toString() })
        response.writeHead(status, answerHeaders).end('seen')
      })
    })
    let account: QStashAccount & AsyncDisposable
    let client: Client
    let url: string
    const run = crypto.randomUUID().slice(0, 8)
    // An account may have the schedule of a deployment.
    const scheduleId = `tick-of-test-${run}`
    const of = (mark: string): typeof came => came.filter(({ body }) => body.includes(`${run} ${mark}`))
    const message = (mark: string) => ({ url, body: { mark: `${run} ${mark}` }, retries: 0 })

    beforeAll(async () => {
      account = await open()
      client = new Client({ baseUrl: account.url, token: account.token, devMode: false, retry: { retries: 1 } })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const { port } = server.address() as AddressInfo // of a server that listens on TCP
      url = account.delivers ? `http://127.0.0.1:${port}/wake?of=${run}` : 'https://example.com/wake'
    })
    afterAll(async () => {
      await client.schedules.delete(scheduleId).catch(() => undefined)
      await account[Symbol.asyncDispose]()
      server.closeAllConnections()
      server.close()
    })
    const reached = (skip: (why: string) => void): void => {
      if (!account.delivers) skip('it cannot reach this machine')
      status = 200
      answerHeaders = {}
    }

    test('a wrong token is refused', async () => {
      const stranger = new Client({ baseUrl: account.url, token: 'nobody', devMode: false, retry: { retries: 0 } })
      await expect(stranger.publishJSON(message('stranger'))).rejects.toMatchObject({ status: 401 })
    })

    test('a message arrives as it was sent, signed for its address by the key of now', async ({ skip }) => {
      reached(skip)
      const sent = await client.publishJSON({ ...message('plain'), headers: { 'x-of': 'test' } })
      expect(sent.messageId).toMatch(/^msg_/)
      await until('it arrives', () => of('plain').length === 1)
      const [{ headers, body } = { headers: {}, body: '' }] = of('plain')
      expect(headers).toMatchObject({ 'x-of': 'test', 'content-type': 'application/json', 'upstash-retried': '0' })
      const { current, next } = account.keys
      const receiver = new Receiver({ currentSigningKey: current, nextSigningKey: next, devMode: false })
      const signature = String(headers['upstash-signature'])
      await expect(receiver.verify({ signature, body, url })).resolves.toBe(true)
      await expect(receiver.verify({ signature, body: `${body} `, url })).rejects.toThrow('body hash')
      await expect(receiver.verify({ signature, body, url: `${url}x` })).rejects.toThrow('subject')
      const claims: unknown = JSON.parse(Buffer.from(signature.split('.')[1] ?? '', 'base64url').toString())
      expect(claims).toMatchObject({ iss: 'Upstash', sub: url, jti: expect.any(String), nbf: expect.any(Number) })
    })

    test('a batch of messages arrives', async ({ skip }) => {
      reached(skip)
      const answers = await client.batchJSON([message('batch one'), message('batch two')])
      expect(answers).toHaveLength(2)
      await until('both arrive', () => of('batch one').length === 1 && of('batch two').length === 1)
    })

    test('a second message of one deduplication id is none', async () => {
      const twice = { ...message('twice'), deduplicationId: `twice.${run}` }
      const [first, second] = [await client.publishJSON(twice), await client.publishJSON(twice)]
      expect(second).toEqual(expect.objectContaining({ messageId: first.messageId, deduplicated: true }))
    })

    test('what fails is tried again, as often as it says, and is then among the dead letters', async ({ skip }) => {
      reached(skip)
      status = 500
      const { messageId } = await client.publishJSON({ ...message('fails'), retries: 1, retryDelay: '1000' })
      await until('two tries', () => of('fails').length === 2)
      expect(of('fails').map(({ headers }) => headers['upstash-retried'])).toEqual(['0', '1'])
      const dead = async (): Promise<string | undefined> =>
        (await client.dlq.listMessages()).messages.find((one) => one.messageId === messageId)?.dlqId
      await until('it is dead', async () => (await dead()) !== undefined)
      status = 200
      await client.dlq.retry(String(await dead()))
      await until('it comes again', () => of('fails').length === 3)
      await until('it is dead no more', async () => (await dead()) === undefined)
    })

    test('489 is not tried again', async ({ skip }) => {
      reached(skip)
      status = 489
      answerHeaders = { 'upstash-nonretryable-error': 'true' }
      const { messageId } = await client.publishJSON({ ...message('never again'), retries: 3, retryDelay: '100' })
      await until('it is dead', async () =>
        (await client.dlq.listMessages()).messages.some((one) => one.messageId === messageId),
      )
      expect(of('never again')).toHaveLength(1)
    })

    test('messages of a paused flow wait until it goes on', async ({ skip }) => {
      reached(skip)
      const key = `q.ingest.t.${run}`
      await client.flowControl.pause(key)
      for (const n of [1, 2, 3])
        await client.publishJSON({ ...message(`held ${n}`), flowControl: { key, parallelism: 2, rate: 20 } })
      await until('all are parked', async () => (await client.flowControl.get(key)).waitListSize === 3)
      expect(of('held')).toHaveLength(0)
      await client.flowControl.resume(key)
      await until('all arrive', () => of('held').length === 3)
    })

    test('a pinned limit holds against what messages bring', async () => {
      const key = `q.export.t.${run}`
      await client.flowControl.pin(key, { parallelism: 7 })
      await client.publishJSON({ ...message('pinned'), flowControl: { key, parallelism: 2 } })
      const { parallelismMax, isPinnedParallelism } = await client.flowControl.get(key)
      expect({ parallelismMax, isPinnedParallelism }).toEqual({ parallelismMax: 7, isPinnedParallelism: true })
    })

    test('the schedule of the housekeeping is made once, corrected when it is another, and left alone otherwise', async () => {
      const qstash = openQStash({ QSTASH_URL: account.url, QSTASH_TOKEN: account.token })
      expect(await ensureSchedules(qstash, url, { scheduleId })).toBe('created')
      expect(await ensureSchedules(qstash, url, { scheduleId })).toBe('unchanged')
      expect(await ensureSchedules(qstash, `${url}&new`, { scheduleId })).toBe('changed')
      const mine = (await client.schedules.list()).filter((one) => one.scheduleId === scheduleId)
      expect(mine).toEqual([expect.objectContaining({ cron: '* * * * *', destination: `${url}&new`, isPaused: false })])
      await client.schedules.pause({ schedule: scheduleId })
      expect(await ensureSchedules(qstash, url, { scheduleId })).toBe('changed')
      expect(await client.schedules.get(scheduleId)).toMatchObject({ destination: url, isPaused: false })
      if (!account.fire) return
      came.length = 0
      await account.fire(scheduleId)
      await until('it comes', () => came.length === 1)
      expect(came[0]).toMatchObject({ headers: { 'upstash-schedule-id': scheduleId }, body: '{"v":1}' })
    })
  })
}
