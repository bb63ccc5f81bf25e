import { type Quota, quotas } from '../../schema/config/quotas.ts'
import { type Plan, plans } from '../../schema/config/tenant.ts'
import { builder } from '../graphql/builder.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import type { Spending } from '../http/admit.ts'
import { Tenant } from '../tenants/graphql.ts'
import type { TenantRow } from '../tenants/suspend-tenant.ts'
import { changePlan, limitNames, setTenantLimits } from './change-plan.ts'
import { readUsage, type Usage } from './read-usage.ts'

/** The plans. */
export const PlanEnum = builder.enumType('Plan', {
  description: 'What a tenant may use.',
  values: Object.fromEntries(
    Object.entries(plans).map(([name, plan]) => [
      name,
      {
        value: name as Plan,
        description: `${plan.maxRunningTotal} steps at once, ${plan.memoryBytes / 2 ** 20} MiB of memory, ${plan.diskBytes / 2 ** 30} GiB of storage, ${plan.runsPerMonth} runs and ${plan.rowsPerMonth} rows a month.`,
      },
    ]),
  ),
})

const QuotaEnum = builder.enumType('Quota', {
  description: 'What a plan bounds.',
  values: Object.fromEntries(
    Object.entries(quotas).map(([name, { description }]) => [
      name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase(),
      { value: name as Quota, description },
    ]),
  ),
})

const QuotaUsage = builder.objectRef<Usage>('QuotaUsage').implement({
  description: 'How much of a quota is used.',
  fields: (t) => ({
    quota: t.field({ type: QuotaEnum, description: 'Which quota.', resolve: ({ quota }) => quota }),
    limit: t.field({ type: 'BigInt', description: 'What the tenant may use.', resolve: ({ limit }) => limit }),
    used: t.field({ type: 'BigInt', description: 'What it uses.', resolve: ({ used }) => used }),
    percent: t.int({
      description: 'The same in percent, rounded down; more than 100 where a load was let to its end.',
      resolve: ({ percent }) => percent,
    }),
    resetsAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it starts again from nothing; null for what has to be given up first.',
      resolve: ({ resetsAt }) => resetsAt,
    }),
  }),
})

builder.objectField(Tenant, 'usage', (t) =>
  t.field({
    type: [QuotaUsage],
    description: 'What it uses of each quota, at most 20. At 80 and at 100 percent its administrators are told.',
    resolve: (row, _args, context) => readUsage(context, row.id),
  }),
)

const RateLimit = builder.objectRef<Spending>('RateLimit').implement({
  description:
    'What requests may cost: each takes points of its tenant and of its key or person, which come back evenly within a minute.',
  fields: (t) => ({
    cost: t.exposeInt('points', {
      description: 'Points that this request has taken: 1, and 1 more for each 100 of its cost.',
    }),
    limit: t.int({
      nullable: true,
      description: 'Points a minute, of the scarcest limit; null when it cannot be asked, and nothing is refused.',
      resolve: ({ standing }) => standing?.limit,
    }),
    remaining: t.int({
      nullable: true,
      description: 'How many of them are left.',
      resolve: ({ standing }) => standing?.remaining,
    }),
    used: t.int({
      nullable: true,
      description: 'How many are taken.',
      resolve: ({ standing }) => standing && standing.limit - standing.remaining,
    }),
    resetAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When all of them are there again, if nothing more is taken.',
      resolve: ({ standing }) => standing?.resetsAt,
    }),
  }),
})

builder.queryFields((t) => ({
  rateLimit: t.field({
    type: RateLimit,
    description: 'How the limits of the caller stand. The headers `x-ratelimit-*` of every answer say the same.',
    authScopes: { authenticated: true },
    resolve: (_root, _args, { spending }) => spending,
  }),
}))

const ChangePlanInput = builder.inputType('ChangePlanInput', {
  description: 'A tenant and its next plan.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Which tenant.' }),
    plan: t.field({ type: PlanEnum, required: true, description: 'The plan that it gets.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const LimitsInput = builder.inputType('LimitsInput', {
  description: 'Numbers beside the plan; null gives one back to the plan, what is absent stays.',
  fields: (t) =>
    Object.fromEntries(
      limitNames.map((name) => [name, t.field({ type: 'BigInt', description: `In place of the plan’s \`${name}\`.` })]),
    ) as Record<(typeof limitNames)[number], ReturnType<typeof t.field<'BigInt', false>>>,
})

const SetTenantLimitsInput = builder.inputType('SetTenantLimitsInput', {
  description: 'What one tenant may use beyond or below its plan.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Which tenant.' }),
    limits: t.field({ type: LimitsInput, required: true, description: 'The numbers.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const TenantPlanPayload = builder.objectRef<{ tenant?: TenantRow; errors: Refusal[] }>('TenantPlanPayload').implement({
  description: 'The tenant with what it may use now, or why nothing was changed.',
  fields: (t) => ({
    tenant: t.field({ type: Tenant, nullable: true, description: 'The tenant.', resolve: (row) => row.tenant }),
    errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
  }),
})

builder.mutationFields((t) => ({
  changePlan: t.field({
    type: TenantPlanPayload,
    description:
      'Gives a tenant another plan; limits and queues follow at once. What it has too much of is kept. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: ChangePlanInput, required: true, description: 'The tenant and the plan.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'changePlan', input, async (context) => ({
        tenant: await changePlan(context, input.tenantId, input.plan),
      })),
  }),
  setTenantLimits: t.field({
    type: TenantPlanPayload,
    description: 'Sets numbers of a tenant beside its plan; they outlive a change of the plan. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: SetTenantLimitsInput, required: true, description: 'The tenant and the numbers.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'setTenantLimits', input, async (context) => ({
        tenant: await setTenantLimits(context, input.tenantId, input.limits),
      })),
  }),
}))
