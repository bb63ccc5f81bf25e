import { type Permissions, permissionScopes, permissionsOf, scopesOf } from '../../schema/roles.ts'
import { authOf, type Context } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { RoleEnum, ScopeEnum } from '../graphql/enums.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { Tenant } from '../tenants/graphql.ts'
import { activateUser } from './activate-user.ts'
import { changeUserRole } from './change-user-role.ts'
import type { UserRow } from './change-user.ts'
import { createUser } from './create-user.ts'
import { deactivateUser } from './deactivate-user.ts'
import { deleteUser } from './delete-user.ts'
import { inviteUser } from './invite-user.ts'
import { listUsers, readUser, rolesOf } from './list-users.ts'
import { updateUser } from './update-user.ts'

/** What a person may do, in four words. */
export const UserPermissions = builder.objectRef<Permissions>('UserPermissions').implement({
  description: 'What a person may do, in four words. They follow from the scopes of the roles.',
  fields: (t) => ({
    canViewJobs: t.exposeBoolean('canViewJobs', { description: made('Sees pipelines and runs', 'canViewJobs') }),
    canCreateJobs: t.exposeBoolean('canCreateJobs', { description: made('Starts runs', 'canCreateJobs') }),
    canViewReports: t.exposeBoolean('canViewReports', {
      description: made('Sees counts, scores and errors of runs', 'canViewReports'),
    }),
    canExportData: t.exposeBoolean('canExportData', {
      description: made('Has files written and sent, as a step of a run', 'canExportData'),
    }),
  }),
})

/** A person of a tenant. */
export const User = builder.objectRef<UserRow>('User').implement({
  description: 'A person of a tenant.',
  authScopes: { scope: ['users:read', 'users:write', 'platform:admin'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `usr_`.' }),
    email: t.exposeString('email', { description: 'Address, unique in the tenant; empty once deleted.' }),
    username: t.exposeString('username', { description: 'Short name; empty once deleted.' }),
    firstName: t.exposeString('firstName', { description: 'Given name; may be empty.' }),
    lastName: t.exposeString('lastName', { description: 'Family name; may be empty.' }),
    status: t.exposeString('status', { description: 'invited, active, deactivated or deleted.' }),
    createdAt: t.field({ type: 'DateTime', description: 'When it was made.', resolve: (row) => row.createdAt }),
    roles: t.field({
      type: [RoleEnum],
      description: 'Its roles.',
      resolve: (row, _args, context) => rolesOf(context, row),
    }),
    scopes: t.field({
      type: [ScopeEnum],
      description: 'What its roles let it do; nothing unless it is active.',
      resolve: (row, _args, context) => scopesInForce(context, row),
    }),
    permissions: t.field({
      type: UserPermissions,
      description: 'The same in four words.',
      resolve: async (row, _args, context) => permissionsOf(await scopesInForce(context, row)),
    }),
  }),
})

async function scopesInForce(context: Context, user: UserRow) {
  return user.status === 'active' ? scopesOf(await rolesOf(context, user)) : []
}

const UserConnection = builder.connectionObject(
  { type: User, name: 'UserConnection', description: 'A page of people.' },
  { name: 'UserEdge', description: 'A person and its place in the list.' },
)

builder.objectField(Tenant, 'users', (t) =>
  t.field({
    type: UserConnection,
    description: 'People of the tenant, in the order in which they were made; deleted ones are left out.',
    authScopes: { scope: ['users:read', 'platform:admin'] },
    args: pageArgs,
    resolve: (row, args, context) => listUsers(context, row.id, args),
  }),
)

builder.queryFields((t) => ({
  users: t.field({
    type: UserConnection,
    description: 'People of the tenant of the key, in the order in which they were made; deleted ones are left out.',
    authScopes: { scope: 'users:read' },
    args: pageArgs,
    resolve: (_root, args, context) => listUsers(context, authOf(context).tenantId, args),
  }),
  user: t.field({
    type: User,
    nullable: true,
    description: 'A person, even a deleted one. One that is missing and one of another tenant give the same NOT_FOUND.',
    authScopes: { scope: 'users:read' },
    args: { id: t.arg.id({ required: true, description: 'The person, `usr_…`.' }) },
    resolve: (_root, { id }, context) => readUser(context, id),
  }),
}))

const CreateUserInput = builder.inputType('CreateUserInput', {
  description: 'A person to make.',
  fields: (t) => ({
    email: t.string({ required: true, description: 'Address, unique in the tenant.' }),
    username: t.string({ description: 'Short name; default: the address.' }),
    firstName: t.string({ description: 'Given name; default: none.' }),
    lastName: t.string({ description: 'Family name; default: none.' }),
    role: t.field({
      type: RoleEnum,
      description:
        'Its role, with no scope that the key has not; default: the `defaultRole` of the tenant. The platform’s people have its own roles.',
    }),
    idempotencyKey: t.string(keyField),
  }),
})

const UpdateUserInput = builder.inputType('UpdateUserInput', {
  description: 'What to change of a person; what is absent stays.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The person, `usr_…`.' }),
    email: t.string({ description: 'Address, unique in the tenant.' }),
    username: t.string({ description: 'Short name.' }),
    firstName: t.string({ description: 'Given name.' }),
    lastName: t.string({ description: 'Family name.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const ChangeUserRoleInput = builder.inputType('ChangeUserRoleInput', {
  description: 'A person and its next role.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The person, `usr_…`.' }),
    role: t.field({ type: RoleEnum, required: true, description: 'The one role that it will have.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const UserInput = builder.inputType('UserInput', {
  description: 'A person.',
  fields: (t) => ({
    id: t.id({ required: true, description: 'The person, `usr_…`.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const UserPayload = builder.objectRef<{ user?: UserRow; errors: Refusal[] }>('UserPayload').implement({
  description: 'The person as it stands after the change, or why there is none.',
  fields: (t) => ({
    user: t.field({ type: User, nullable: true, description: 'The person.', resolve: ({ user }) => user }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})

const InviteUserPayload = builder
  .objectRef<{ user?: UserRow; link?: string | undefined; errors: Refusal[] }>('InviteUserPayload')
  .implement({
    description: 'The person, or why it is not invited.',
    fields: (t) => ({
      user: t.field({ type: User, nullable: true, description: 'The person.', resolve: ({ user }) => user }),
      link: t.string({
        nullable: true,
        description: 'The token for `activateAccount`, shown this once; null when it goes out by mail.',
        resolve: ({ link }) => link,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  createUser: t.field({
    type: UserPayload,
    description:
      'Makes an invited person; it is welcomed by mail, with a link that activates the account, when the tenant’s configuration says so.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: CreateUserInput, required: true, description: 'The person.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'createUser', input, async (context) => ({ user: await createUser(context, input) })),
  }),
  inviteUser: t.field({
    type: InviteUserPayload,
    description:
      'Makes a new link by which an invited or active person sets a password, good once and for a week; earlier ones are good no more. It goes out by mail when the tenant’s configuration says so, and is answered else.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: UserInput, required: true, description: 'The person.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'inviteUser', input, (context) => inviteUser(context, input.id), { secrets: ['link'] }),
  }),
  updateUser: t.field({
    type: UserPayload,
    description: 'Changes address and names of a person.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: UpdateUserInput, required: true, description: 'What to change.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'updateUser', input, async (context) => ({
        user: await updateUser(context, input.id, input),
      })),
  }),
  changeUserRole: t.field({
    type: UserPayload,
    description: 'Gives a person another role. The last active administrator keeps its own.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: ChangeUserRoleInput, required: true, description: 'Who and what.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'changeUserRole', input, async (context) => ({
        user: await changeUserRole(context, input.id, input.role),
      })),
  }),
  activateUser: t.field({
    type: UserPayload,
    description: 'Makes an invited or deactivated person active; a repeat changes nothing.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: UserInput, required: true, description: 'The person.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'activateUser', input, async (context) => ({ user: await activateUser(context, input.id) })),
  }),
  deactivateUser: t.field({
    type: UserPayload,
    description:
      'Ends the sessions of a person and takes every permission until it is activated; never from the last administrator.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: UserInput, required: true, description: 'The person.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'deactivateUser', input, async (context) => ({
        user: await deactivateUser(context, input.id),
      })),
  }),
  deleteUser: t.field({
    type: UserPayload,
    description: 'Erases what is personal of a person for good and keeps the id; never of the last administrator.',
    authScopes: { scope: ['users:write', 'platform:admin'] },
    args: { input: t.arg({ type: UserInput, required: true, description: 'The person.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'deleteUser', input, async (context) => ({ user: await deleteUser(context, input.id) })),
  }),
}))

function made(text: string, permission: keyof Permissions): string {
  return `${text}: ${permissionScopes[permission].join(' and ')}.`
}
