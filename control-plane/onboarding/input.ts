import { z } from 'zod'
import { type Plan, plans, tenantConfiguration, type TenantConfiguration } from '../../schema/config/tenant.ts'
import { AppError } from '../../shared/errors.ts'
import { isTenantId } from '../../shared/ids.ts'

/** A checked request: the profile as it will be stored, and the secret of the SFTP server if there is one. */
export type OnboardRequest = {
  profile: {
    id: string
    name: string
    companyName: string
    adminEmail: string
    plan: Plan
    configuration: TenantConfiguration
  }
  sftp: Record<string, unknown> | undefined
}

const text = z.string().trim().min(1).max(200)
const inputShape = z.object({
  tenantId: z.string().refine(isTenantId),
  name: text,
  companyName: text,
  adminEmail: z.email().max(320),
  plan: z.enum(Object.keys(plans) as [Plan, ...Plan[]]),
  configuration: z.record(z.string(), z.unknown()).nullish(),
  sftp: z
    .object({
      host: z.string().min(1).max(253),
      port: z.int().min(1).max(65_535).nullish(),
      username: z.string().min(1).max(200),
      password: z.string().min(1).max(1000),
      hostKey: z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}=?$/),
      remoteDirectory: z.string().min(1).max(512).nullish(),
    })
    .nullish(),
})

/** The name under which the SFTP server of onboarding is stored. */
export const sftpCredentialName = 'sftp'

/** Checks a request to onboard. Throws BAD_INPUT, which names fields and never repeats a value. */
export function onboardRequest(given: unknown): OnboardRequest {
  const input = checked(inputShape, given, '')
  const { sftp } = input
  const sections = input.configuration ?? {}
  const section = sections['sftp']
  const configuration = checked(
    tenantConfiguration,
    sftp
      ? {
          ...sections,
          sftp: {
            ...(typeof section === 'object' ? section : {}),
            credential: sftpCredentialName,
            ...(sftp.remoteDirectory ? { remoteDirectory: sftp.remoteDirectory } : {}),
          },
        }
      : sections,
    'configuration.',
  )
  const { tenantId: id, name, companyName, adminEmail, plan } = input
  return {
    profile: { id, name, companyName, adminEmail, plan, configuration },
    sftp: sftp
      ? {
          host: sftp.host,
          port: sftp.port ?? 22,
          username: sftp.username,
          password: sftp.password,
          hostKey: sftp.hostKey,
        }
      : undefined,
  }
}

function checked<S extends z.ZodType>(shape: S, value: unknown, prefix: string): z.output<S> {
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const fields = [...new Set(parsed.error.issues.flatMap((issue) => fieldsOf(issue)))].map(
    (field) => `${prefix}${field}`,
  )
  throw new AppError('BAD_INPUT', `Not usable: ${fields.join(', ')}.`, {
    hint: 'tenantId: a lower case letter, then lower case letters, digits and _, 48 at most, no reserved name. See the descriptions of the fields.',
    place: { path: fields[0] ?? prefix },
  })
}

function fieldsOf(issue: z.core.$ZodIssue): string[] {
  const path = issue.path.join('.')
  if (issue.code !== 'unrecognized_keys') return [path]
  return issue.keys.map((key) => (path ? `${path}.${key}` : key))
}
