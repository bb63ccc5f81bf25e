import { and, eq } from 'drizzle-orm'
import { z } from 'zod'
import { webhook } from '../../schema/tables/index.ts'
import type { Tx } from '../db/db.ts'
import type { SecretBox } from '../secrets/secret-box.ts'
import { openStored } from '../secrets/secret-box.ts'

/** A webhook's row. */
export type WebhookRow = typeof webhook.$inferSelect

/** A webhook with the secrets that are good now: its own, and for a while the one before a rotation. */
export type OpenedWebhook = { row: WebhookRow; secrets: string[] }

const secretShape = z.object({ secret: z.string().min(1) })

/** Opens the webhook of this id in the transaction of its tenant; undefined when there is none. Throws SECRET_UNREADABLE. */
export async function openWebhook(
  tx: Tx,
  box: SecretBox,
  by: { tenantId: string; id: string; now: Date },
): Promise<OpenedWebhook | undefined> {
  const read = async (): Promise<WebhookRow | undefined> => {
    const [row] = await tx
      .select()
      .from(webhook)
      .where(and(eq(webhook.tenantId, by.tenantId), eq(webhook.id, by.id)))
    return row
  }
  const current = await openStored(tx, box, async () => {
    const row = await read()
    return row && { ...row, owner: ownerOf(row, 0) }
  })
  if (!current) return undefined
  const previous = await openStored(tx, box, async () => {
    const row = await read()
    if (!row?.previousSealed || !row.previousUntil || row.previousUntil <= by.now) return undefined
    return { sealed: row.previousSealed, owner: ownerOf(row, 1) }
  })
  const { owner: _owner, ...row } = current.row
  const opened = [current.secret, ...(previous ? [previous.secret] : [])]
  return { row, secrets: opened.map((one) => secretShape.parse(one).secret) }
}

/** What a secret of a webhook is bound to: the one before a rotation to the version before. */
export const ownerOf = (
  { tenantId, id, version }: Pick<WebhookRow, 'tenantId' | 'id' | 'version'>,
  before: 0 | 1,
): { tenantId: string; credentialId: string; version: number } => ({
  tenantId,
  credentialId: id,
  version: version - before,
})

/** Seals the secrets of a webhook, which the caller holds, with the current key of the tenant. */
export async function resealWebhook(tx: Tx, box: SecretBox, row: WebhookRow): Promise<void> {
  const again = async (sealed: WebhookRow['sealed'], before: 0 | 1): Promise<WebhookRow['sealed']> =>
    box.seal(tx, ownerOf(row, before), await box.open(tx, ownerOf(row, before), sealed))
  await tx
    .update(webhook)
    .set({
      sealed: await again(row.sealed, 0),
      previousSealed: row.previousSealed && (await again(row.previousSealed, 1)),
    })
    .where(and(eq(webhook.tenantId, row.tenantId), eq(webhook.id, row.id)))
}
