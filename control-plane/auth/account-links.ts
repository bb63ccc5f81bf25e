import { and, eq, gt } from 'drizzle-orm'
import { accountLink, type LinkPurpose } from '../../schema/tables/index.ts'
import { type LinkSeed, linkToken } from '../../shared/auth/account-link.ts'
import type { Tx } from '../../shared/db/db.ts'
import type { OwnMail } from '../../shared/outbox.ts'
import { sameHash } from '../../shared/secrets/api-key.ts'
import type { Context } from '../context.ts'
import { randomHex } from './session.ts'

/** How long a link is good; milliseconds. */
export const linkMs = { activate: 7 * 86_400_000, reset: 60 * 60_000 } as const

/** Makes a person's link for a purpose in the caller's transaction; the one before is good no more. */
export async function makeLink(
  { ports }: Context,
  tx: Tx,
  person: { tenantId: string; userId: string; purpose: LinkPurpose },
): Promise<LinkSeed> {
  const { id: keyId } = await ports.signing.current('link')
  const nonce = randomHex()
  const expiresAt = new Date(ports.clock.now().getTime() + linkMs[person.purpose])
  await tx
    .insert(accountLink)
    .values({ ...person, nonce, keyId, expiresAt })
    .onConflictDoUpdate({
      target: [accountLink.tenantId, accountLink.userId, accountLink.purpose],
      set: { nonce, keyId, expiresAt },
    })
  return { ...person, nonce, keyId }
}

/** Whether a link is good: known, right, neither used nor replaced nor too old. Its row is held until the transaction ends. */
export async function isGoodLink(
  { ports }: Context,
  tx: Tx,
  token: string,
  { tenantId, userId, purpose }: Pick<LinkSeed, 'tenantId' | 'userId' | 'purpose'>,
): Promise<boolean> {
  const [row] = await tx
    .select()
    .from(accountLink)
    .where(
      and(
        eq(accountLink.tenantId, tenantId),
        eq(accountLink.userId, userId),
        eq(accountLink.purpose, purpose),
        gt(accountLink.expiresAt, ports.clock.now()),
      ),
    )
    .for('update')
  const right = row && (await linkToken(ports.signing, row))
  return right !== undefined && sameHash(token, right)
}

/** A mail with a link, which stands where the text says `{link}`. The message holds no secret: its sender puts it in. */
export function linkMail(
  { identity }: Context,
  seed: LinkSeed,
  mail: Pick<OwnMail, 'to' | 'subject' | 'text'>,
  name: 'welcome' | 'invited' | 'reset',
): OwnMail {
  const { tenantId, userId, nonce } = seed
  const dedupeKey = `user.${name} ${userId}${name === 'welcome' ? '' : ` ${nonce.slice(0, 16)}`}` as const
  return { tenantId, dedupeKey, ...mail, link: { ...seed, page: identity.accountUrl ?? null } }
}
