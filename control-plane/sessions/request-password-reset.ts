import { and, eq, sql } from 'drizzle-orm'
import { tenant, tenantUser } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { tenantIdPattern } from '../../shared/ids.ts'
import { putMail } from '../../shared/outbox.ts'
import { linkMail, makeLink } from '../auth/account-links.ts'
import { accountOf, addressOf, countAttempt } from '../auth/attempts.ts'
import type { Context } from '../context.ts'

// Longer than the work takes: whether a mail was asked for cannot be read from the clock.
const answerMs = 300

/**
 * Asks for a mail with a link by which an active person sets a new password. For an unknown tenant or address, or a person
 * who is not active, nothing is sent and the answer is the same, after the same time. Every request counts. Throws
 * RATE_LIMITED, BAD_INPUT for what can be no address.
 */
export async function requestPasswordReset(
  context: Context,
  { tenantId, email }: { tenantId: string; email: string },
): Promise<void> {
  if (email.length > 254) throw new AppError('BAD_INPUT', 'An address has at most 254 characters.')
  await countAttempt(context, [accountOf('reset', tenantId, email), ...addressOf(context)])
  const answered = context.ports.clock.sleep(answerMs, context.signal)
  if (tenantIdPattern.test(tenantId)) await ask(context, tenantId, email)
  await answered
}

function ask(context: Context, tenantId: string, email: string): Promise<void> {
  return withTenant(context.ports.db, { tenantId, side: 'api' }, async (tx) => {
    const [found] = await tx
      .select({ id: tenantUser.id, email: tenantUser.email, company: tenant.companyName })
      .from(tenantUser)
      .innerJoin(tenant, eq(tenant.id, tenantUser.tenantId))
      .where(
        and(
          eq(tenantUser.tenantId, tenantId),
          eq(tenantUser.status, 'active'),
          eq(tenant.status, 'active'),
          sql`lower(${tenantUser.email}) = lower(${email})`,
        ),
      )
    if (!found) return
    const seed = await makeLink(context, tx, { tenantId, userId: found.id, purpose: 'reset' })
    const company = found.company.replaceAll(/\s+/g, ' ')
    const mail = {
      to: [found.email],
      subject: `Set a new password for the data pipelines of ${company}`,
      text: `Somebody has asked for a new password for your account at ${company}. If it was you, set it within the hour:\n\n{link}\n\nIf it was not, you need not do anything.\n`,
    }
    await putMail(tx, linkMail(context, seed, mail, 'reset'))
    const { requestId } = context
    await audit(tx, { tenantId, actor: 'unknown', action: 'user.reset_requested', target: found.id, requestId })
  })
}
