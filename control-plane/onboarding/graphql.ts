import { ApiKey } from '../api-keys/graphql.ts'
import { builder } from '../graphql/builder.ts'
import { UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { PlanEnum } from '../plans/graphql.ts'
import { Tenant } from '../tenants/graphql.ts'
import { type Onboarded, onboardTenant } from './onboard-tenant.ts'

const OnboardSftpInput = builder.inputType('OnboardSftpInput', {
  description: 'The server to which the tenant’s files go. It is stored as the credential `sftp`.',
  fields: (t) => ({
    host: t.string({ required: true, description: 'Name or address.' }),
    port: t.int({ description: 'Default: 22.' }),
    username: t.string({ required: true, description: 'User on the server.' }),
    password: t.string({ required: true, description: 'Its password; never shown again.' }),
    hostKey: t.string({
      required: true,
      description:
        'Fingerprint of the server, `SHA256:…`, as ssh-keygen -l prints it: a server with another is refused.',
    }),
    remoteDirectory: t.string({ description: 'Folder for the files; made if it is not there. Default: /.' }),
  }),
})

const OnboardTenantInput = builder.inputType('OnboardTenantInput', {
  description: 'A tenant to set up.',
  fields: (t) => ({
    tenantId: t.id({
      required: true,
      description: 'Its id for ever: a lower case letter, then 1 to 47 of lower case letters, digits and _.',
    }),
    name: t.string({ required: true, description: 'Name for people.' }),
    companyName: t.string({ required: true, description: 'The company.' }),
    adminEmail: t.string({ required: true, description: 'Its administrator, who becomes its first user.' }),
    plan: t.field({ type: PlanEnum, required: true, description: 'What it may use.' }),
    configuration: t.field({
      type: 'JSON',
      description:
        'Sections database, sftp, fileProcessing, userManagement, monitoring; what is absent takes its default.',
    }),
    sftp: t.field({ type: OnboardSftpInput, description: 'Where its files go.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const OnboardTenantPayload = builder
  .objectRef<Partial<Onboarded> & Pick<Onboarded, 'errors'>>('OnboardTenantPayload')
  .implement({
    description: 'The tenant and its first key, or what is missing.',
    fields: (t) => ({
      tenant: t.field({
        type: Tenant,
        nullable: true,
        description: 'The tenant as it stands, even if it is not ready yet.',
        resolve: (row) => row.tenant,
      }),
      created: t.boolean({
        description: 'Whether this call finished the onboarding; false when it was finished before.',
        resolve: (row) => row.created ?? false,
      }),
      apiKey: t.field({
        type: ApiKey,
        nullable: true,
        description: 'The first key of the tenant, only from the call that finished.',
        resolve: (row) => row.apiKey,
      }),
      token: t.string({
        nullable: true,
        description: 'That key as programs send it. It is shown this once and kept nowhere.',
        resolve: (row) => row.token,
      }),
      errors: t.field({
        type: [UserError],
        description: 'Why it was refused or is not ready; a repeat goes on where it stopped.',
        resolve: (row) => row.errors,
      }),
    }),
  })

builder.mutationFields((t) => ({
  onboardTenant: t.field({
    type: OnboardTenantPayload,
    description:
      'Sets up a tenant: profile, keys, queues, lake, folders, first user, first API key. Safe to repeat: it goes on where it stopped. For the platform.',
    extensions: { waits: 1 },
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: OnboardTenantInput, required: true, description: 'The tenant.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'onboardTenant', input, (context) => onboardTenant(context, input), {
        secrets: ['token'],
        waits: 1,
      }),
  }),
}))
