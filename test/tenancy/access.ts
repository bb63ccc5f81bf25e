import { getNamedType } from 'graphql'
import { type Role, roleScopes } from '../../schema/roles.ts'
import type { Caller } from './ask.ts'
import type { Target } from './targets.ts'

/** Who may go a target's way, as the builder was told: by each rule on it, the scopes of which one opens it. */
export type Access = { rules: readonly (readonly string[])[]; isPublic: boolean }

/** The rules of the fields and types on a target's way. Throws for a root field that names no rule. */
export function accessOf({ edges, name }: Target): Access {
  const [root] = edges
  const rule = ruleOf(root?.field)
  if (!rule) throw new Error(`${name}: its root says not who may ask`)
  const rules = edges.flatMap(({ field }) => [ruleOf(field), ruleOf(getNamedType(field.type))])
  return { rules: rules.flatMap((one) => (one ? [scopesIn(one, name)] : [])), isPublic: rule['anyone'] === true }
}

/** True when this caller holds what all rules ask for. */
export const isOpenFor = ({ rules }: Access, { role }: Caller): boolean =>
  role !== undefined && rules.every((scopes) => holds(role, scopes))

const holds = (role: Role, scopes: readonly string[]): boolean =>
  scopes.length === 0 || roleScopes[role].some((scope) => scopes.includes(scope))

function ruleOf(
  of: { extensions: Readonly<Record<string, unknown>> } | undefined,
): Record<string, unknown> | undefined {
  const options = of?.extensions['pothosOptions']
  return isRecord(options) && isRecord(options['authScopes']) ? options['authScopes'] : undefined
}

function scopesIn(rule: Record<string, unknown>, name: string): readonly string[] {
  const { scope } = rule
  if (typeof scope === 'string') return [scope]
  if (Array.isArray(scope)) return scope.map(String)
  if (rule['authenticated'] === true || rule['anyone'] === true) return []
  throw new Error(`${name}: a rule of a form that the proof does not know`)
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null
