import { sql } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { tenant } from '../../schema/tables/index.ts'
import { callOnce, type Db, rowsOf, withTenant } from '../../shared/db/db.ts'
import { makeTenant } from '../support/database.ts'

/** What a call in one exchange must keep of what a transaction of its own would. */
export function exchangeCases(engine: string, open: () => Db): void {
  const whoAmI = sql`select current_user::text as role, current_setting('app.tenant_id', true) as tenant`

  test(`${engine}: a call has its role and tenant, and leaves neither behind`, async () => {
    const { tenantId } = await makeTenant(open())
    const [before] = await rowsOf(open(), whoAmI)
    expect(await callOnce(open(), { tenantId, side: 'worker' }, whoAmI)).toEqual([
      { role: 'tributary_worker', tenant: tenantId },
    ])
    const [after] = await rowsOf(open(), whoAmI)
    expect(after?.['role']).toBe(before?.['role'])
    expect(after?.['tenant'] ?? '').toBe('')
  })

  test(`${engine}: a call sees one tenant, and does what its role may`, async () => {
    const [{ tenantId }] = [await makeTenant(open()), await makeTenant(open())]
    const scope = { tenantId, side: 'worker' } as const
    expect(await callOnce(open(), scope, sql`select id from app.tenant`)).toEqual([{ id: tenantId }])
    await expect(callOnce(open(), scope, sql`update app.tenant set name = 'mine'`)).rejects.toMatchObject({
      cause: { code: '42501' },
    })
  })

  test(`${engine}: values keep their kinds, and nothing becomes null but null`, async () => {
    const { tenantId } = await makeTenant(open())
    const answer = await callOnce(
      open(),
      { tenantId, side: 'worker' },
      sql`select ${'a'}::text as text, ${null}::text as none, ${7}::int as number, ${JSON.stringify({ a: [1, null] })}::jsonb as json,
          true as yes, array[${'x'}, ${'y'}]::text[] as list, '2026-01-02T03:04:05Z'::timestamptz = ${'2026-01-02T03:04:05Z'}::timestamptz as same`,
    )
    expect(answer).toEqual([
      { text: 'a', none: null, number: 7, json: { a: [1, null] }, yes: true, list: ['x', 'y'], same: true },
    ])
  })

  test(`${engine}: a call that fails leaves nothing, also when it fails at its commit`, async () => {
    const { tenantId } = await makeTenant(open())
    const scope = { tenantId, side: 'api' } as const
    const nameOf = async () =>
      (await callOnce<{ name: string }>(open(), scope, sql`select name from app.tenant`))[0]?.name
    const broken = sql`with w as (update app.tenant set name = 'broken' returning 1) select 1 / (select count(*) - 1 from w)`
    await expect(callOnce(open(), scope, broken)).rejects.toMatchObject({ cause: { code: '22012' } })
    expect(await nameOf()).toBe(tenantId)
    // The entry is linked when the transaction commits; one whose tenant does not exist cannot be.
    await withTenant(open(), scope, (tx) => tx.update(tenant).set({ name: 'kept' }))
    const late = sql`with w as (update app.tenant set name = 'late' returning 1)
      insert into app.audit_draft (tenant_id, id, actor, action, target) select ${tenantId}, ${'aud_twice'}, 'key:x', 'thing.done', 'y' from w`
    await callOnce(open(), scope, late)
    await withTenant(open(), scope, (tx) => tx.update(tenant).set({ name: 'kept' }))
    await expect(callOnce(open(), scope, late)).rejects.toMatchObject({ cause: { code: '23505' } })
    expect(await nameOf()).toBe('kept')
  })

  test(`${engine}: a call keeps out of the transactions of others`, async () => {
    const [one, two] = [await makeTenant(open()), await makeTenant(open())]
    const calls = Array.from({ length: 20 }, () =>
      callOnce(open(), { tenantId: two.tenantId, side: 'worker' }, sql`select id from app.tenant`),
    )
    await withTenant(open(), { tenantId: one.tenantId, side: 'api' }, async (tx) => {
      for (let i = 0; i < 5; i++)
        expect(await rowsOf(tx, sql`select id from app.tenant`)).toEqual([{ id: one.tenantId }])
    })
    for (const answer of await Promise.all(calls)) expect(answer).toEqual([{ id: two.tenantId }])
  })

  test(`${engine}: inside a transaction a call is part of it`, async () => {
    const { tenantId } = await makeTenant(open())
    const scope = { tenantId, side: 'api' } as const
    const seen: unknown[] = []
    const undone = withTenant(open(), scope, async (tx) => {
      await tx.update(tenant).set({ name: 'undone' })
      seen.push(await callOnce(tx, scope, sql`select name from app.tenant`))
      throw new Error('undone')
    })
    await expect(undone).rejects.toThrow('undone')
    expect(seen).toEqual([[{ name: 'undone' }]])
    expect(await callOnce(open(), scope, sql`select name from app.tenant`)).toEqual([{ name: tenantId }])
  })
}
