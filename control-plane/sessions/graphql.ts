import { and, asc, eq, gt, isNull } from 'drizzle-orm'
import { permissionsOf } from '../../schema/roles.ts'
import { session } from '../../schema/tables/index.ts'
import type { SessionRow } from '../auth/session.ts'
import { type Context, inTenant, userIdOf } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { RoleEnum } from '../graphql/enums.ts'
import { answer, type Refusal, UserError } from '../graphql/user-errors.ts'
import { Viewer } from '../tenants/graphql.ts'
import { UserPermissions } from '../users/graphql.ts'
import { login, type SessionTokens } from './login.ts'
import { logout } from './logout.ts'
import { refreshSession } from './refresh-session.ts'
import { requestPasswordReset } from './request-password-reset.ts'
import { changePassword, setPasswordByLink } from './set-password.ts'

const Session = builder.objectRef<SessionRow>('Session').implement({
  description: 'What somebody who signed in has until it ends.',
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `ses_`.' }),
    startedAt: t.field({
      type: 'DateTime',
      description: 'When the person signed in.',
      resolve: (row) => row.startedAt,
    }),
    refreshedAt: t.field({
      type: 'DateTime',
      description: 'When its tokens were last renewed.',
      resolve: (row) => row.refreshedAt,
    }),
    expiresAt: t.field({
      type: 'DateTime',
      description: 'When it ends unless it is refreshed before; 30 days after its start at the latest.',
      resolve: (row) => row.expiresAt,
    }),
  }),
})

builder.objectFields(Viewer, (t) => ({
  userId: t.id({ nullable: true, description: 'The person; null for a key.', resolve: (auth) => userIdOf(auth) }),
  roles: t.field({
    type: [RoleEnum],
    description: 'Roles of the person; none for a key.',
    resolve: ({ bearer }) => (bearer.kind === 'key' ? [] : [...bearer.roles]),
  }),
  permissions: t.field({
    type: UserPermissions,
    description: 'What it may do, in four words.',
    resolve: ({ scopes }) => permissionsOf([...scopes]),
  }),
  session: t.field({
    type: Session,
    nullable: true,
    description: 'The session of the request; null for a key and for tokens of an identity provider.',
    resolve: async ({ bearer }, _args, context) =>
      bearer.kind === 'session' ? (await liveSessions(context)).find(({ id }) => id === bearer.sessionId) : null,
  }),
  sessions: t.field({
    type: [Session],
    description: 'All sessions of the person that have not ended, oldest first; at most 20.',
    resolve: (_auth, _args, context) => liveSessions(context),
  }),
}))

const SessionTokensType = builder.objectRef<SessionTokens>('SessionTokens').implement({
  description: 'The tokens of a session. They are shown this once.',
  fields: (t) => ({
    accessToken: t.exposeString('accessToken', { description: 'For requests: `Authorization: Bearer <token>`.' }),
    expiresAt: t.field({
      type: 'DateTime',
      description: 'Until when the access token is good; 15 minutes.',
      resolve: (row) => row.expiresAt,
    }),
    refreshToken: t.exposeString('refreshToken', {
      description: 'For `refreshSession`, once. A second use ends the session.',
    }),
    session: t.field({ type: Session, description: 'The session.', resolve: (row) => row.session }),
  }),
})

const SessionPayload = builder.objectRef<{ tokens?: SessionTokens; errors: Refusal[] }>('SessionPayload').implement({
  description: 'The tokens of a session, or why there are none.',
  fields: (t) => ({
    tokens: t.field({
      type: SessionTokensType,
      nullable: true,
      description: 'The tokens.',
      resolve: ({ tokens }) => tokens,
    }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})

const LogoutPayload = builder.objectRef<{ ended?: number; errors: Refusal[] }>('LogoutPayload').implement({
  description: 'What has ended, or why nothing has.',
  fields: (t) => ({
    ended: t.int({ description: 'How many sessions.', resolve: ({ ended }) => ended ?? 0 }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})

const AccountPayload = builder.objectRef<{ isDone?: boolean; errors: Refusal[] }>('AccountPayload').implement({
  description: 'Whether it was done, or why not.',
  fields: (t) => ({
    isDone: t.boolean({ description: 'True without errors.', resolve: ({ isDone }) => isDone ?? false }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})

const LoginInput = builder.inputType('LoginInput', {
  description: 'Who wants in.',
  fields: (t) => ({
    tenantId: t.string({ required: true, description: 'The tenant; `platform` for people of the platform.' }),
    email: t.string({ required: true, description: 'The address of the account, in whatever case.' }),
    password: t.string({ required: true, description: 'The password.' }),
  }),
})

const RefreshSessionInput = builder.inputType('RefreshSessionInput', {
  description: 'A session to go on with.',
  fields: (t) => ({ refreshToken: t.string({ required: true, description: 'The newest one, not used yet.' }) }),
})

const LogoutInput = builder.inputType('LogoutInput', {
  description: 'What to end.',
  fields: (t) => ({
    everywhere: t.boolean({ defaultValue: false, description: 'All sessions of the person; default: this one.' }),
  }),
})

const ChangePasswordInput = builder.inputType('ChangePasswordInput', {
  description: 'A password and the next.',
  fields: (t) => ({
    currentPassword: t.string({ required: true, description: 'The one of now.' }),
    newPassword: t.string({ required: true, description: 'At least 12 characters and at most 256 bytes.' }),
  }),
})

const AccountLinkInput = builder.inputType('AccountLinkInput', {
  description: 'A one-time link and the password to set by it.',
  fields: (t) => ({
    token: t.string({ required: true, description: 'The code of the link.' }),
    password: t.string({ required: true, description: 'At least 12 characters and at most 256 bytes.' }),
  }),
})

const RequestPasswordResetInput = builder.inputType('RequestPasswordResetInput', {
  description: 'The account whose password is lost.',
  fields: (t) => ({
    tenantId: t.string({ required: true, description: 'The tenant.' }),
    email: t.string({ required: true, description: 'The address of the account.' }),
  }),
})

builder.mutationFields((t) => ({
  login: t.field({
    type: SessionPayload,
    description:
      'Starts a session with a password. Needs no key. Whatever is wrong of the three, the answer is the same; after 10 failures of an account, or 100 of an address, within 15 minutes RATE_LIMITED says how long to wait.',
    authScopes: { anyone: true },
    args: { input: t.arg({ type: LoginInput, required: true, description: 'Who wants in.' }) },
    resolve: (_root, { input }, context) => answer(async () => ({ tokens: await login(context, input) })),
  }),
  refreshSession: t.field({
    type: SessionPayload,
    description:
      'Gives the next tokens of a session for its refresh token, once. A repeat within 10 seconds gets CONFLICT; any later use of a used token ends the session. Needs no key.',
    authScopes: { anyone: true },
    args: { input: t.arg({ type: RefreshSessionInput, required: true, description: 'The session.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => ({ tokens: await refreshSession(context, input.refreshToken) })),
  }),
  activateAccount: t.field({
    type: AccountPayload,
    description:
      'Sets the password of an invited person by the link of the invitation, and makes it active. Needs no key.',
    authScopes: { anyone: true },
    args: { input: t.arg({ type: AccountLinkInput, required: true, description: 'Link and password.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => {
        await setPasswordByLink(context, 'activate', input)
        return { isDone: true }
      }),
  }),
  requestPasswordReset: t.field({
    type: AccountPayload,
    description:
      'Asks for a mail with a link for a new password. The answer is the same whether there is such an account or not. Needs no key.',
    authScopes: { anyone: true },
    args: { input: t.arg({ type: RequestPasswordResetInput, required: true, description: 'The account.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => {
        await requestPasswordReset(context, input)
        return { isDone: true }
      }),
  }),
  resetPassword: t.field({
    type: AccountPayload,
    description: 'Sets a new password by the link of such a mail and ends all sessions of the person. Needs no key.',
    authScopes: { anyone: true },
    args: { input: t.arg({ type: AccountLinkInput, required: true, description: 'Link and password.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => {
        await setPasswordByLink(context, 'reset', input)
        return { isDone: true }
      }),
  }),
  changePassword: t.field({
    type: AccountPayload,
    description: 'Changes the password of the person who asks and ends its other sessions.',
    authScopes: { authenticated: true },
    args: { input: t.arg({ type: ChangePasswordInput, required: true, description: 'Both passwords.' }) },
    resolve: (_root, { input: { currentPassword, newPassword } }, context) =>
      answer(async () => {
        await changePassword(context, { current: currentPassword, next: newPassword })
        return { isDone: true }
      }),
  }),
  logout: t.field({
    type: LogoutPayload,
    description:
      'Ends the session of the request, or all of the person: their tokens are refused from the next request on.',
    authScopes: { authenticated: true },
    args: { input: t.arg({ type: LogoutInput, required: true, description: 'What to end.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => ({ ended: await logout(context, input.everywhere ?? false) })),
  }),
}))

function liveSessions(context: Context): Promise<SessionRow[]> {
  return inTenant(context, async (tx, auth) => {
    const userId = userIdOf(auth)
    if (userId === undefined) return []
    const isLive = and(isNull(session.endedAt), gt(session.expiresAt, context.ports.clock.now()))
    return tx
      .select()
      .from(session)
      .where(and(eq(session.tenantId, auth.tenantId), eq(session.userId, userId), isLive))
      .orderBy(asc(session.startedAt), asc(session.id))
  })
}
