import { hash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { rowText } from '../../shared/audit-chain.ts'
import { type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'

let plane: ControlPlane
let a: { id: string; token: string }
let b: { id: string; token: string }
beforeAll(async () => {
  plane = await controlPlane()
  a = await plane.tenant()
  b = await plane.tenant()
  for (const { token } of [a, b, b]) await save(token, `x/y/p${Math.random().toString(36).slice(2)}`)
})
afterAll(() => plane[Symbol.asyncDispose]())

const yaml = 'pipeline_id: p\\nsteps:\\n  - step_id: only\\n    ps_type: file.delete\\n    paths: [\\"a\\"]\\n'
const save = (token: string, path: string) =>
  plane.query(`mutation { savePipeline(input: { path: "${path}", yaml: "${yaml}" }) { created } }`, { token })
const headOf = async (token: string): Promise<Loose> =>
  (await plane.query('{ auditHead { tenantId seq hash } }', { token })).data.auditHead
const verify = async (token: string, args = ''): Promise<Loose> =>
  (
    await plane.query(`{ verifyAudit${args} { ok rows isWhole firstBrokenSeq reason last { tenantId seq hash } } }`, {
      token,
    })
  ).data.verifyAudit

test('a tenant verifies its own log, and again from a head that it kept', async () => {
  const head = await headOf(a.token)
  expect(head).toEqual({ tenantId: a.id, seq: expect.any(Number), hash: expect.stringMatching(/^[0-9a-f]{64}$/) })
  const good = { ok: true, isWhole: true, firstBrokenSeq: null, reason: null }
  expect(await verify(a.token)).toEqual({ ...good, rows: head.seq, last: head })
  await save(a.token, 'x/y/later')
  const args = `(after: { seq: ${head.seq}, hash: "${head.hash}" })`
  expect(await verify(a.token, args)).toEqual({ ...good, rows: 1, last: await headOf(a.token) })
})

test('a head that is not of this log is told, with its number', async () => {
  const { seq, hash: theirs } = await headOf(b.token)
  const found = await verify(a.token, `(after: { seq: ${seq}, hash: "${theirs}" })`)
  expect(found).toMatchObject({ ok: false, firstBrokenSeq: seq, reason: 'WITNESS_MISMATCH' })
  const { errors } = await plane.query('{ verifyAudit(after: { seq: 1, hash: "x" }) { ok } }', a)
  expect(errors[0]?.extensions.code).toBe('BAD_INPUT')
})

const download = (token: string | undefined, search = '', path = '/v1/audit.ndjson'): Promise<Response> =>
  plane.app.fetch(
    new Request(`http://edge.example${path}${search}`, token ? { headers: { authorization: `Bearer ${token}` } } : {}),
  )
const linesOf = async (response: Response): Promise<{ row: Loose; line: string }[]> =>
  (await response.text())
    .split('\n')
    .slice(0, -1)
    .map((line) => ({ row: JSON.parse(line), line }))

describe('the export', () => {
  test('holds every entry of the tenant in order, itself too, each with the text that its hash is of', async () => {
    const response = await download(a.token)
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/x-ndjson'])
    const lines = await linesOf(response)
    const head = await headOf(a.token)
    expect(lines.map(({ row }) => row.seq)).toEqual(Array.from({ length: head.seq }, (_, i) => i + 1))
    expect(lines.at(-1)?.row).toMatchObject({ action: 'audit.exported', hash: head.hash })
    for (const { row, line } of lines) {
      const details = /"details":(.*),"prevHash":/.exec(line)?.[1] ?? ''
      expect(hash('sha256', rowText(a.id, { ...row, details }))).toBe(row.hash)
    }
  })

  test('takes filters, and refuses others', async () => {
    const actions = await linesOf(await download(b.token, '?action=pipeline.saved'))
    const all = await linesOf(await download(b.token))
    const saved = all.filter(({ row }) => row.action === 'pipeline.saved')
    expect(actions.map(({ line }) => line)).toEqual(saved.map(({ line }) => line))
    const [first, second] = all
    const since = encodeURIComponent(second?.row.at)
    expect((await linesOf(await download(b.token, `?since=${since}`)))[0]?.line).toBe(second?.line)
    expect((await linesOf(await download(b.token, `?until=${since}`))).map(({ line }) => line)).toEqual([first?.line])
    expect((await linesOf(await download(b.token, '?after=1')))[0]?.line).toBe(second?.line)
    expect(await linesOf(await download(b.token, '?actor=nobody'))).toEqual([])
    for (const search of ['?since=yesterday', '?after=-1', '?tenantId=x'])
      expect([search, (await download(b.token, search)).status]).toEqual([search, 400])
  })

  test('is for keys with the scope alone', async () => {
    expect((await download(undefined)).status).toBe(401)
    expect((await download(await plane.key(a.id, { scopes: ['runs:read'] }))).status).toBe(403)
    expect((await download(a.token, '', '/v1/audit.ndjson/x')).status).toBe(404)
  })
})
