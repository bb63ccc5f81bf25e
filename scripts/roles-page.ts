import type { GraphQLField, GraphQLSchema } from 'graphql'
import {
  permissionScopes,
  permissionsOf,
  type Role,
  roleScopes,
  scopes,
  systemRoles,
  tenantRoles,
} from '../schema/roles.ts'

/** All roles, those of tenants first. */
export const roles: readonly Role[] = [...tenantRoles, ...systemRoles]

/** A root field of the API: the scopes of which one opens it; none when everybody may ask who is known, or anyone at all. */
export type RootField = {
  operation: 'query' | 'mutation' | 'subscription'
  name: string
  scopes: readonly string[]
  isPublic: boolean
}

/** The root fields of the API with their scopes, as the builder was told them. Throws for a field without a rule. */
export function rootFields(api: GraphQLSchema): RootField[] {
  const types = { query: api.getQueryType(), mutation: api.getMutationType(), subscription: api.getSubscriptionType() }
  return Object.entries(types).flatMap(([operation, type]) =>
    Object.values(type?.getFields() ?? {})
      .map((field) => ({
        operation: operation as RootField['operation'],
        name: field.name,
        scopes: scopesOfField(field),
        isPublic: ruleOf(field)['anyone'] === true,
      }))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  )
}

/** True when a key of this role gets past the scope of the field. */
export function isOpenTo(role: Role, field: RootField): boolean {
  return field.scopes.length === 0 || roleScopes[role].some((scope) => field.scopes.includes(scope))
}

/** docs/roles.md: which scopes a role brings, and which root fields and permissions follow from them. */
export function rolesPage(api: GraphQLSchema): string {
  const fields = rootFields(api)
  return [
    '# Roles',
    '',
    'Who may do what. Generated from the one table in [schema/roles.ts](../schema/roles.ts) and the scopes of the API by `npm run generate`.',
    '',
    'A key has scopes, and so has a person by its roles; a role is a set of them. The roles of tenants count inside one tenant. Those of the platform stand above tenants: SUPPORT and AUDITOR only read, and name the tenant that they read.',
    '',
    '## Scopes',
    '',
    ...table(
      'scope',
      scopes.map((scope) => [`\`${scope}\``, (role) => roleScopes[role].includes(scope)]),
    ),
    '',
    '## Permissions of a person',
    '',
    ...table(
      'permission',
      permissionNames.map((name) => [
        `\`${name}\` (${permissionScopes[name].join(', ')})`,
        (role) => permissionsOf(roleScopes[role])[name],
      ]),
    ),
    '',
    '## The API',
    '',
    ...table(
      'field',
      fields.map((field) => [
        `${field.operation} \`${field.name}\`${field.isPublic ? ' (anyone, without a key)' : ''}`,
        (role) => isOpenTo(role, field),
      ]),
    ),
    '',
  ].join('\n')
}

// Keys of a constant object: exactly the names of the permissions.
const permissionNames = Object.keys(permissionScopes) as (keyof typeof permissionScopes)[]

function table(head: string, rows: [string, (role: Role) => boolean][]): string[] {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [
    line([head, ...roles]),
    line(['---', ...roles.map(() => ':-:')]),
    ...rows.map(([name, may]) => line([name, ...roles.map((role) => (may(role) ? '✔' : ''))])),
  ]
}

function scopesOfField(field: GraphQLField<unknown, unknown>): readonly string[] {
  const rule = ruleOf(field)
  const { scope } = rule
  if (typeof scope === 'string') return [scope]
  if (Array.isArray(scope)) return scope.map(String)
  if (rule['authenticated'] === true || rule['anyone'] === true) return []
  throw new Error(`${field.name} says not who may ask for it`)
}

function ruleOf(field: GraphQLField<unknown, unknown>): Record<string, unknown> {
  const options: unknown = field.extensions['pothosOptions']
  const rule = isRecord(options) ? options['authScopes'] : undefined
  return isRecord(rule) ? rule : {}
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null
