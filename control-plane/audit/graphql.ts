import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { type AuditRow, listAudit } from './list-audit.ts'

const AuditEvent = builder.objectRef<AuditRow>('AuditEvent').implement({
  description: 'Something that was done.',
  authScopes: { scope: 'audit:read' },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `aud_`.' }),
    at: t.field({ type: 'DateTime', description: 'When.', resolve: (row) => row.at }),
    actor: t.exposeString('actor', { description: 'By whom: `key:…`, `worker:…` or `system:…`.' }),
    action: t.exposeString('action', { description: 'What, as `credential.created`.' }),
    target: t.exposeString('target', { description: 'To what.' }),
    requestId: t.exposeString('requestId', { nullable: true, description: 'The request that asked for it.' }),
    details: t.field({ type: 'JSON', description: 'Its particulars; never a secret.', resolve: (row) => row.details }),
  }),
})

const AuditEventConnection = builder.connectionObject(
  { type: AuditEvent, name: 'AuditEventConnection', description: 'A page of the audit log.' },
  { name: 'AuditEventEdge', description: 'An entry and its place in the list.' },
)

const AuditFilter = builder.inputType('AuditFilter', {
  description: 'Which entries; what is absent does not filter.',
  fields: (t) => ({
    actor: t.string({ description: 'Done by exactly this actor.' }),
    action: t.string({ description: 'Exactly this action.' }),
    target: t.string({ description: 'Done to exactly this target.' }),
  }),
})

builder.queryFields((t) => ({
  auditLog: t.field({
    type: AuditEventConnection,
    description: 'What was done in the tenant, newest first.',
    authScopes: { scope: 'audit:read' },
    args: { ...pageArgs, filter: t.arg({ type: AuditFilter, description: 'Which entries; default: all.' }) },
    resolve: (_root, { filter, ...args }, context) => listAudit(context, args, filter ?? {}),
  }),
}))
