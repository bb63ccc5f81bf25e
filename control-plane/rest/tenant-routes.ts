import { z } from 'zod'
import { plans, type Plan } from '../../schema/config/tenant.ts'
import { OnboardTenant } from '../../schema/operations/index.ts'
import { defineRoute, type Route } from './define.ts'
import { tenantShape } from './shapes.ts'

const planNames = Object.keys(plans) as [Plan, ...Plan[]]

/** Setting tenants up. */
export const tenantRoutes: readonly Route[] = [
  defineRoute({
    method: 'POST',
    path: '/tenants/onboard',
    summary:
      'Sets up a tenant and answers its first key, once. Safe to repeat: it goes on where it stopped. For the platform.',
    operation: OnboardTenant,
    parameters: z.object({}),
    body: z.strictObject({
      tenant_id: z.string().describe('Its id for ever: a lower case letter, then lower case letters, digits and _.'),
      company_name: z.string(),
      subscription_plan: z.enum(planNames).default('STARTER'),
      name: z.string().optional().describe('Name for people; default: company_name.'),
      admin_email: z
        .string()
        .optional()
        .describe(
          'Its administrator, who becomes its first user. Default: an address that exists nowhere, admin@<tenant_id>.invalid, to be replaced by updateTenantSettings.',
        ),
      configuration: z.record(z.string(), z.unknown()).optional(),
    }),
    variables: ({ body }) => ({
      input: {
        tenantId: body.tenant_id,
        companyName: body.company_name,
        name: body.name ?? body.company_name,
        adminEmail: body.admin_email ?? `admin@${body.tenant_id.replaceAll('_', '-')}.invalid`,
        plan: body.subscription_plan,
        configuration: body.configuration,
      },
    }),
    reply: z.strictObject({
      tenant: tenantShape,
      created: z.boolean().describe('Whether this request finished the onboarding.'),
      api_key_id: z.string().nullable(),
      api_key: z.string().nullable().describe('The first key of the tenant, shown this once.'),
    }),
    statuses: { 201: 'This request finished the onboarding.', 200: 'It was finished before.' },
    answer({ onboardTenant: { tenant, created, apiKey, token } }) {
      if (!tenant) throw new Error('onboarding answers neither a tenant nor a refusal')
      return {
        status: created ? 201 : 200,
        body: {
          tenant: {
            tenant_id: tenant.id,
            name: tenant.name,
            company_name: tenant.companyName,
            subscription_plan: tenant.plan,
            status: tenant.status,
          },
          created,
          api_key_id: apiKey?.id ?? null,
          api_key: token,
        },
      }
    },
  }),
]
