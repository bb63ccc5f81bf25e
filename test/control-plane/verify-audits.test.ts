import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { roleScopes } from '../../schema/roles.ts'
import { rowsOf } from '../../shared/db/db.ts'
import { cutAudits } from '../../workers/keep-audit.ts'
import { type Answer, type ControlPlane, controlPlane, type Loose } from '../support/control-plane.ts'
import { agedEntry, tamper } from '../support/database.ts'

let plane: ControlPlane
let auditor: string
let ids: string[]
beforeAll(async () => {
  plane = await controlPlane()
  auditor = await plane.key('platform', { scopes: roleScopes.AUDITOR })
  ids = []
  for (let i = 0; i < 120; i++) {
    const { id } = await plane.tenant()
    ids.push(id)
    for (const days of [500, 3, 2]) await agedEntry(plane.ports.db, id, days)
  }
  await cutAudits(plane.ports)
})
afterAll(() => plane[Symbol.asyncDispose]())

const fields =
  'lines { ok rows cut isWhole firstBrokenSeq reason last { tenantId seq hash } } next { tenantId seq hash }'
const ask = (variables: object, token = auditor): Promise<Answer> =>
  plane.query(
    `query ($after: AuditPlace, $witnesses: [AuditPlace!]) { verifyAudits(after: $after, witnesses: $witnesses) { ${fields} } }`,
    { token, variables },
  )
const all = async (witnesses: object[] = []): Promise<{ lines: Loose[]; pages: number }> => {
  const lines: Loose[] = []
  let pages = 0
  for (let after: Loose = null; ;) {
    const { data, errors } = await ask({ after, witnesses })
    expect(errors).toEqual([])
    lines.push(...data.verifyAudits.lines)
    pages++
    after = data.verifyAudits.next
    if (!after) return { lines, pages }
  }
}
const bad = (lines: Loose[]): Loose[] =>
  lines
    .filter(({ ok }) => !ok)
    .map(({ last, firstBrokenSeq, reason }) => [last.tenantId, firstBrokenSeq, reason])
    .toSorted()

test('an auditor verifies the logs of all tenants, a hundred a page, each once and those that were cut too', async () => {
  const { lines, pages } = await all()
  expect(pages).toBe(2)
  const seen = lines.map(({ last }) => last.tenantId)
  expect(seen.toSorted()).toEqual(['platform', ...ids].toSorted())
  expect(bad(lines)).toEqual([])
  const [one] = lines.filter(({ last }) => last.tenantId === ids[7])
  expect(one).toMatchObject({ ok: true, isWhole: true, cut: 1, rows: 3, last: { seq: 4 } })
})

test('each tenant whose log was changed is named with its first bad number, and no other', async () => {
  const { lines: before } = await all()
  const [a = '', b = '', c = ''] = ids
  const witnesses = before.map(({ last }) => last)
  await tamper(
    plane.ports.db,
    sql`update app.audit_event set actor = 'x' where tenant_id = ${a} and seq = 3`,
    sql`delete from app.audit_checkpoint where tenant_id = ${b}`,
    sql`delete from app.audit_event where tenant_id = ${c} and seq > 3`,
    sql`update app.audit_head set seq = 3, hash = (select hash from app.audit_event where tenant_id = ${c} and seq = 3) where tenant_id = ${c}`,
  )
  const broken = [
    [a, 3, 'CHANGED'],
    [b, 1, 'MISSING'],
  ]
  expect(bad((await all()).lines)).toEqual(broken.toSorted())
  const withWitnesses = [...broken, [c, 4, 'WITNESS_MISMATCH'], ['lost_one', 9, 'WITNESS_MISMATCH']].toSorted()
  const lost = { tenantId: 'lost_one', seq: 9, hash: 'a'.repeat(64) }
  expect(bad((await all([...witnesses, lost])).lines)).toEqual(withWitnesses)
})

test('it can go on inside a log, from a place that must be there', async () => {
  const id = ids[20] ?? ''
  const [row] = await rowsOf<{ hash: string }>(
    plane.ports.db,
    sql`select hash from app.audit_event where tenant_id = ${id} and seq = 3`,
  )
  const { data } = await ask({ after: { tenantId: id, seq: 3, hash: row?.hash } })
  expect(data.verifyAudits.lines[0]).toMatchObject({ ok: true, rows: 1, last: { tenantId: id, seq: 4 } })
  const other = await ask({ after: { tenantId: id, seq: 3, hash: 'a'.repeat(64) } })
  expect(other.data.verifyAudits.lines[0]).toMatchObject({ firstBrokenSeq: 3, reason: 'WITNESS_MISMATCH' })
})

test('the platform’s log says that it was done and what was found; the tenants’ logs do not move', async () => {
  const { lines } = await all()
  const { data } = await plane.query(
    '{ auditLog(filter: { action: "audit.verified" }, first: 2) { nodes { details } } }',
    {
      token: plane.platformToken,
    },
  )
  expect(data.auditLog.nodes.map(({ details }: Loose) => details.tenants)).toEqual([lines.length - 100, 100])
  expect(data.auditLog.nodes.flatMap(({ details }: Loose) => details.broken)).toHaveLength(2)
  const after = (await all()).lines
  const heads = (of: Loose[]): Loose[] => of.map(({ last }) => last).filter(({ tenantId }) => tenantId !== 'platform')
  expect(heads(after)).toEqual(heads(lines))
})

test('it is for auditors of the platform, and takes no more than it says', async () => {
  const { token } = await plane.tenant('guru_x')
  expect((await ask({}, token)).errors[0]?.extensions.code).toBe('FORBIDDEN')
  const head = { tenantId: 'x', seq: 1, hash: 'a'.repeat(64) }
  expect((await ask({ witnesses: Array.from({ length: 1001 }, () => head) })).errors[0]?.extensions.code).toBe(
    'TOO_LARGE',
  )
  expect((await ask({ after: { ...head, hash: 'x' } })).errors[0]?.extensions.code).toBe('BAD_INPUT')
})
