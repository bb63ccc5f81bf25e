/**
 * What a key or a person may do. Those of `platform:` stand above tenants and are held by keys of the platform alone;
 * every other one counts inside the key's own tenant.
 */
export const scopes = [
  'platform:admin',
  'platform:read',
  'platform:audit',
  'tenant:read',
  'tenant:write',
  'users:read',
  'users:write',
  'keys:read',
  'keys:write',
  'credentials:write',
  'credentials:read',
  'pipelines:read',
  'pipelines:write',
  'runs:read',
  'runs:write',
  'data:read',
  'schedules:read',
  'schedules:write',
  'workers:read',
  'workers:write',
  'audit:read',
] as const
/** A scope. */
export type Scope = (typeof scopes)[number]

/** The scopes that a tenant's own key may hold. */
export const tenantScopes: readonly Scope[] = scopes.filter((scope) => !scope.startsWith('platform:'))

/** Roles of people inside a tenant. */
export const tenantRoles = ['TENANT_ADMIN', 'DATA_ENGINEER', 'DATA_ANALYST', 'DATA_STEWARD', 'POWER_USER'] as const
/** A tenant role. */
export type TenantRole = (typeof tenantRoles)[number]

/** Roles of the operator's own people and programs; keys of the platform are made for them. */
export const systemRoles = ['PLATFORM_ADMIN', 'SUPPORT', 'AUDITOR'] as const
/** A system role. */
export type SystemRole = (typeof systemRoles)[number]

/** Any role. */
export type Role = TenantRole | SystemRole

const reading = ['tenant:read', 'pipelines:read', 'runs:read', 'schedules:read', 'workers:read'] as const

/** Which scopes a role brings: the only place that says so. docs/roles.md prints it beside what each scope opens. */
export const roleScopes: Readonly<Record<Role, readonly Scope[]>> = {
  TENANT_ADMIN: tenantScopes,
  DATA_ENGINEER: [
    ...reading,
    'data:read',
    'pipelines:write',
    'runs:write',
    'schedules:write',
    'credentials:read',
    'credentials:write',
    'workers:write',
  ],
  DATA_ANALYST: [...reading, 'data:read'],
  DATA_STEWARD: [...reading, 'data:read', 'audit:read'],
  POWER_USER: [...reading, 'runs:write'],
  PLATFORM_ADMIN: [
    'platform:admin',
    'platform:read',
    'platform:audit',
    'tenant:read',
    'users:read',
    'keys:read',
    'audit:read',
  ],
  SUPPORT: ['platform:read', 'tenant:read', 'users:read', 'keys:read'],
  AUDITOR: ['platform:audit', 'audit:read'],
}

/** The four permissions of a person, each with the scopes that make it up. An export is a step of a run. */
export const permissionScopes = {
  canViewJobs: ['pipelines:read', 'runs:read'],
  canCreateJobs: ['pipelines:read', 'runs:write'],
  canViewReports: ['runs:read'],
  canExportData: ['runs:read', 'runs:write'],
} as const satisfies Record<string, readonly Scope[]>
/** The permissions of a person. */
export type Permissions = Record<keyof typeof permissionScopes, boolean>

/** What several roles bring together, in the order of `scopes`. */
export function scopesOf(roles: readonly Role[]): Scope[] {
  return scopes.filter((scope) => roles.some((role) => roleScopes[role].includes(scope)))
}

/** Which permissions these scopes make up. */
export function permissionsOf(held: readonly Scope[]): Permissions {
  const has = (permission: keyof Permissions): boolean =>
    permissionScopes[permission].every((scope) => held.includes(scope))
  return {
    canViewJobs: has('canViewJobs'),
    canCreateJobs: has('canCreateJobs'),
    canViewReports: has('canViewReports'),
    canExportData: has('canExportData'),
  }
}

/** The tenant whose keys act for the platform; nobody can onboard a tenant of this name. */
export const platformTenantId = 'platform'
