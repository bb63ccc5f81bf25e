import { z } from 'zod'
import { platformTenantId, systemRoles, tenantRoles } from '../../schema/roles.ts'
import { tenantUser, userRole } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { AppError } from '../../shared/errors.ts'
import { newId } from '../../shared/ids.ts'
import { type OwnMail, putMail } from '../../shared/outbox.ts'
import { linkMail, makeLink } from '../auth/account-links.ts'
import { type Context, inTenant } from '../context.ts'
import { lockPeople, refuseBeyond, refuseForeignRole, type UserRow } from './change-user.ts'
import { checkedFields, emailTaken, personalFields } from './personal-fields.ts'

const inputShape = z.object({
  email: personalFields.email,
  username: personalFields.username.nullish(),
  firstName: personalFields.firstName.nullish(),
  lastName: personalFields.lastName.nullish(),
  role: z.enum([...tenantRoles, ...systemRoles]).nullish(),
})

/** A person to make. */
export type NewUser = z.input<typeof inputShape>

/**
 * Makes an invited person of the caller's tenant with one role: the given one or the tenant's `defaultRole`; the user name
 * is by default the address. A welcome with a link that activates the account goes out when the tenant's configuration says
 * so. Throws BAD_INPUT, ALREADY_EXISTS for an address in use, FORBIDDEN for a role that may do more than the caller.
 */
export function createUser(context: Context, given: NewUser): Promise<UserRow> {
  const { role: wanted, ...input } = checkedFields(inputShape, given)
  return inTenant(context, async (tx, auth) => {
    const { tenantId, actor } = auth
    const { configuration, companyName } = await lockPeople(tx, tenantId)
    const { defaultRole, welcomeMail } = configuration.userManagement
    // What somebody may do above tenants is never left to a default.
    if (!wanted && tenantId === platformTenantId)
      throw new AppError('BAD_INPUT', 'A person of the platform needs a role.', { place: { path: 'role' } })
    const role = wanted ?? defaultRole
    refuseForeignRole(tenantId, role)
    refuseBeyond(auth, [role])
    const id = newId('user')
    const [user] = await tx
      .insert(tenantUser)
      .values({
        tenantId,
        id,
        email: input.email,
        username: input.username ?? input.email,
        firstName: input.firstName ?? '',
        lastName: input.lastName ?? '',
        status: 'invited',
      })
      .onConflictDoNothing()
      .returning()
    if (!user) throw emailTaken()
    await tx.insert(userRole).values({ tenantId, userId: id, role })
    const { email, username, firstName, lastName } = user
    await audit(
      tx,
      {
        tenantId,
        actor,
        action: 'user.created',
        target: id,
        requestId: context.requestId,
        details: { role, isWelcomed: welcomeMail },
        subject: id,
        personal: { email, username, firstName, lastName },
      },
      context.ports.secrets,
    )
    if (welcomeMail) {
      const link = await makeLink(context, tx, { tenantId, userId: id, purpose: 'activate' })
      await putMail(tx, linkMail(context, link, welcomeOf(user, companyName), 'welcome'))
    }
    return user
  })
}

/** The welcome of a person, with the place of the link that activates the account. */
export function welcomeOf({ email, username, firstName }: UserRow, companyName: string): Welcome {
  // A header is one line.
  const company = companyName.replaceAll(/\s+/g, ' ')
  return {
    to: [email],
    subject: `Welcome to the data pipelines of ${company}`,
    text: `Hello ${firstName || username},\n\n${company} has made an account for you. Your user name is ${username}. Set your password within a week:\n\n{link}\n`,
  }
}

type Welcome = Pick<OwnMail, 'to' | 'subject' | 'text'>
