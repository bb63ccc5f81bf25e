import { type Feature, features, isOn } from '../../schema/config/features.ts'
import { builder } from '../graphql/builder.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { Tenant } from '../tenants/graphql.ts'
import type { TenantRow } from '../tenants/suspend-tenant.ts'
import { setFeature } from './set-feature.ts'
import { updateSettings } from './update-settings.ts'

// Keys of a constant object: exactly the names of the features.
const featureNames = Object.keys(features) as Feature[]

const FeatureEnum = builder.enumType('Feature', {
  description: 'What can be switched on and off for a tenant.',
  values: Object.fromEntries(
    featureNames.map((name) => [
      name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase(),
      {
        value: name,
        description: `${features[name].description} Switched by the ${features[name].setBy}; without a word it is ${features[name].isOn ? 'on' : 'off'}.`,
      },
    ]),
  ),
})

const TenantFeature = builder.objectRef<{ feature: Feature; isOn: boolean }>('TenantFeature').implement({
  description: 'A feature as it stands for a tenant.',
  fields: (t) => ({
    feature: t.field({ type: FeatureEnum, description: 'Which feature.', resolve: ({ feature }) => feature }),
    isOn: t.exposeBoolean('isOn', { description: 'Whether it is on.' }),
    setBy: t.string({ description: 'tenant or platform.', resolve: ({ feature }) => features[feature].setBy }),
  }),
})

builder.objectField(Tenant, 'features', (t) =>
  t.field({
    type: [TenantFeature],
    description: 'What is switched on for it, at most 20.',
    resolve: (row) => featureNames.map((feature) => ({ feature, isOn: isOn(feature, row.features) })),
  }),
)
builder.objectField(Tenant, 'version', (t) =>
  t.int({ description: 'Grows with every change of its settings.', resolve: (row) => row.version }),
)

const UpdateTenantSettingsInput = builder.inputType('UpdateTenantSettingsInput', {
  description: 'What to change of the settings; what is absent stays.',
  fields: (t) => ({
    expectedVersion: t.int({ required: true, description: 'The `version` that the change is made for.' }),
    name: t.string({ description: 'Name for people.' }),
    companyName: t.string({ description: 'The company.' }),
    adminEmail: t.string({ description: 'Its administrator, to whom warnings go without `monitoring.alertEmails`.' }),
    configuration: t.field({
      type: 'JSON',
      description:
        'Sections database, sftp, fileProcessing, userManagement, monitoring with the fields that change; null is the default.',
    }),
    idempotencyKey: t.string(keyField),
  }),
})

const SetTenantFeatureInput = builder.inputType('SetTenantFeatureInput', {
  description: 'A feature to switch.',
  fields: (t) => ({
    feature: t.field({ type: FeatureEnum, required: true, description: 'Which feature.' }),
    isOn: t.boolean({ required: true, description: 'Whether it shall be on.' }),
    tenantId: t.id({ description: 'For the platform: whose feature. Default: the tenant of the key.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const TenantSettingsPayload = builder
  .objectRef<{ tenant?: TenantRow; errors: Refusal[] }>('TenantSettingsPayload')
  .implement({
    description: 'The tenant as it stands after the change, or all that is wrong with the change.',
    fields: (t) => ({
      tenant: t.field({ type: Tenant, nullable: true, description: 'The tenant.', resolve: (row) => row.tenant }),
      errors: t.field({ type: [UserError], description: 'All that is wrong.', resolve: ({ errors }) => errors }),
    }),
  })

builder.mutationFields((t) => ({
  updateTenantSettings: t.field({
    type: TenantSettingsPayload,
    description:
      'Changes profile and configuration of the tenant of the key. Faults come with their paths, all at once.',
    authScopes: { scope: 'tenant:write' },
    args: { input: t.arg({ type: UpdateTenantSettingsInput, required: true, description: 'What changes.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(
        context,
        'updateTenantSettings',
        input,
        async (context): Promise<{ tenant?: TenantRow; errors: Refusal[] }> => {
          const done = await updateSettings(context, input)
          return 'faults' in done ? { errors: done.faults } : { tenant: done.tenant, errors: [] }
        },
      ),
  }),
  setTenantFeature: t.field({
    type: TenantSettingsPayload,
    description:
      'Switches a feature on or off: those of the tenant by itself, every one of any tenant by the platform.',
    authScopes: { scope: ['tenant:write', 'platform:admin'] },
    args: { input: t.arg({ type: SetTenantFeatureInput, required: true, description: 'The feature.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'setTenantFeature', input, async (context) => ({ tenant: await setFeature(context, input) })),
  }),
}))
