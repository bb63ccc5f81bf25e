/** Roles of people inside a tenant. */
export const tenantRoles = ['TENANT_ADMIN', 'DATA_ENGINEER', 'DATA_ANALYST', 'DATA_STEWARD', 'POWER_USER'] as const
/** A tenant role. */
export type TenantRole = (typeof tenantRoles)[number]

/**
 * What a key or a person may do. `platform:admin` stands above tenants and is held by keys of the platform alone;
 * every other scope counts inside the key's own tenant.
 */
export const scopes = [
  'platform:admin',
  'tenant:read',
  'credentials:write',
  'credentials:read',
  'pipelines:read',
  'pipelines:write',
  'runs:read',
  'runs:write',
  'audit:read',
] as const
/** A scope. */
export type Scope = (typeof scopes)[number]

/** The scopes that a tenant's own key may hold. */
export const tenantScopes: readonly Scope[] = scopes.filter((scope) => !scope.startsWith('platform:'))

/** The tenant whose keys act for the platform; nobody can onboard a tenant of this name. */
export const platformTenantId = 'platform'
