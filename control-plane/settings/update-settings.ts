import { eq } from 'drizzle-orm'
import { z } from 'zod'
import { tenantConfiguration, type TenantConfiguration } from '../../schema/config/tenant.ts'
import { tenant } from '../../schema/tables/index.ts'
import { audit } from '../../shared/audit.ts'
import { AppError } from '../../shared/errors.ts'
import { type Context, inTenant } from '../context.ts'
import type { Refusal } from '../graphql/user-errors.ts'
import type { TenantRow } from '../tenants/suspend-tenant.ts'

const text = z.string().trim().min(1).max(200)
const profileShape = z.object({
  name: text.nullish(),
  companyName: text.nullish(),
  adminEmail: z.email().max(320).nullish(),
})

/** What to change; what is absent stays. `configuration` holds sections, each with the fields that change. */
export type SettingsChange = z.input<typeof profileShape> & { configuration?: unknown; expectedVersion: number }

/**
 * Changes profile and configuration of the key's tenant under the next version. In a section null puts a field back to its
 * default, and so for a whole section. The same values again change nothing. Answers the tenant, or every fault with its
 * path. Throws CONFLICT when `expectedVersion` is not the current one.
 */
export function updateSettings(
  context: Context,
  given: SettingsChange,
): Promise<{ tenant: TenantRow } | { faults: Refusal[] }> {
  return inTenant(context, async (tx, { tenantId, actor }) => {
    const [row] = await tx.select().from(tenant).where(eq(tenant.id, tenantId)).for('no key update')
    if (!row) throw new Error('the tenant of a key is not there')
    if (row.version !== given.expectedVersion)
      throw new AppError('CONFLICT', `The settings are at version ${row.version}, not ${given.expectedVersion}.`, {
        place: { path: 'expectedVersion' },
        figures: { version: { expected: given.expectedVersion, current: row.version } },
      })
    const profile = profileShape.safeParse(given)
    const configuration = tenantConfiguration.safeParse(merged(row.configuration, given.configuration ?? {}))
    if (!profile.success || !configuration.success)
      return { faults: [...faultsOf(profile.error, []), ...faultsOf(configuration.error, ['configuration'])] }
    const next = {
      name: profile.data.name ?? row.name,
      companyName: profile.data.companyName ?? row.companyName,
      adminEmail: profile.data.adminEmail ?? row.adminEmail,
      configuration: configuration.data,
    }
    const fields = changedFields(row, next)
    if (fields.length === 0) return { tenant: row }
    const version = row.version + 1
    await tx
      .update(tenant)
      .set({ ...next, version })
      .where(eq(tenant.id, tenantId))
    // Names alone: values are partly addresses of people.
    await audit(tx, {
      tenantId,
      actor,
      action: 'tenant.settings_changed',
      target: tenantId,
      requestId: context.requestId,
      details: { fields, version },
    })
    return { tenant: { ...row, ...next, version } }
  })
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

// What is no object is left for the form to refuse.
function merged(current: TenantConfiguration, given: unknown): unknown {
  if (!isObject(given)) return given
  const sections: Record<string, unknown> = { ...current }
  for (const [name, change] of Object.entries(given)) {
    if (change === null && Object.hasOwn(current, name)) delete sections[name]
    else sections[name] = isObject(change) ? mergedSection(sections[name], change) : change
  }
  return sections
}

function mergedSection(current: unknown, change: Record<string, unknown>): Record<string, unknown> {
  const section = { ...(isObject(current) ? current : {}), ...change }
  return Object.fromEntries(Object.entries(section).filter(([name, value]) => change[name] !== null || value !== null))
}

function faultsOf(error: z.ZodError | undefined, above: readonly string[]): Refusal[] {
  return (error?.issues ?? []).flatMap((issue) => {
    const paths = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key]) : [issue.path]
    return paths.map((path): Refusal => {
      const place = [...above, ...path.map(String)]
      return {
        code: 'BAD_INPUT',
        message: `${place.join('.')}: ${issue.code === 'unrecognized_keys' ? 'there is no such setting' : issue.message}`,
        hint: 'Correct the named field.',
        path: [place.join('.')],
      }
    })
  })
}

type Settings = Pick<TenantRow, 'name' | 'companyName' | 'adminEmail' | 'configuration'>

function changedFields(before: Settings, after: Settings): string[] {
  const flat = (of: Settings): Map<string, string> =>
    new Map([
      ...(['name', 'companyName', 'adminEmail'] as const).map((name) => [name, of[name]] as const),
      ...Object.entries(of.configuration).flatMap(([section, fields]) =>
        Object.entries(fields).map(([name, value]) => [`${section}.${name}`, JSON.stringify(value)] as const),
      ),
    ])
  const [old, now] = [flat(before), flat(after)]
  return [...new Set([...old.keys(), ...now.keys()])].filter((name) => old.get(name) !== now.get(name)).sort()
}
