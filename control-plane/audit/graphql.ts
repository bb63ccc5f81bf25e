import { breakReasons } from '../../shared/audit-chain.ts'
import type { Checkpoint } from '../../shared/audit-checkpoint.ts'
import { builder } from '../graphql/builder.ts'
import { pageArgs } from '../graphql/page.ts'
import { type Refusal, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { type AuditRow, listAudit } from './list-audit.ts'
import { readPersonal } from './read-personal.ts'
import { readRetention, type Retention, retentionDays, setRetention } from './retention.ts'
import { type Sweep, verifyAudits } from './verify-audits.ts'
import { type Head, readAuditHead, type Verification, verifyAuditLog } from './verify-audit-log.ts'

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
    subject: t.exposeString('subject', { nullable: true, description: 'Whom its personal details are about.' }),
    personal: t.field({
      type: 'JSON',
      nullable: true,
      description:
        'Its personal details, for keys of the tenant itself that hold users:read as well; null when there are none, when their subject was erased, and for everybody else.',
      resolve: (row, _args, context) => readPersonal(context, row),
    }),
    seq: t.field({
      type: 'BigInt',
      description: 'Its number in the log, from 1 without a gap.',
      resolve: (row) => row.seq,
    }),
    prevHash: t.exposeString('prevHash', { description: 'The hash of the entry before.' }),
    hash: t.exposeString('hash', { description: 'SHA-256 over this entry and `prevHash`, in hexadecimal.' }),
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

const AuditHead = builder.objectRef<Head>('AuditHead').implement({
  description: 'A place in the audit log. Kept elsewhere, it witnesses every entry up to it.',
  authScopes: { scope: ['audit:read', 'platform:audit'] },
  fields: (t) => ({
    tenantId: t.exposeString('tenantId', { description: 'Whose log.' }),
    seq: t.field({
      type: 'BigInt',
      description: 'Number of the entry, 0 before the first.',
      resolve: (head) => head.seq,
    }),
    hash: t.exposeString('hash', { description: 'Hash of the entry.' }),
  }),
})

const AuditPlace = builder.inputType('AuditPlace', {
  description: 'A place in the log of a tenant, as `auditHead` gives it.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Whose log.' }),
    seq: t.field({ type: 'BigInt', required: true, description: 'Number of the entry, 0 for the beginning.' }),
    hash: t.string({ required: true, description: 'Hash of the entry.' }),
  }),
})

const AuditBreak = builder.enumType('AuditBreak', {
  description: 'How a log can fail to be what was written.',
  values: Object.fromEntries(Object.entries(breakReasons).map(([reason, description]) => [reason, { description }])),
})

const AuditVerification = builder.objectRef<Verification>('AuditVerification').implement({
  description: 'What a verification of the audit log found.',
  authScopes: { scope: ['audit:read', 'platform:audit'] },
  fields: (t) => ({
    ok: t.exposeBoolean('ok', { description: 'Whether every entry that was looked at is what was written.' }),
    rows: t.exposeInt('rows', { description: 'How many entries were found good.' }),
    cut: t.field({
      type: 'BigInt',
      description: 'The number up to which old entries were cut under a signed checkpoint; 0 without a cut.',
      resolve: (found) => found.cut,
    }),
    isWhole: t.exposeBoolean('isWhole', {
      description: 'False when there are more entries than one request verifies: go on with `after: last`.',
    }),
    last: t.field({ type: AuditHead, description: 'The last good entry.', resolve: (found) => found.last }),
    firstBrokenSeq: t.field({
      type: 'BigInt',
      nullable: true,
      description: 'The number of the first bad entry.',
      resolve: (found) => found.firstBrokenSeq,
    }),
    reason: t.field({
      type: AuditBreak,
      nullable: true,
      description: 'What is wrong with it.',
      resolve: (found) => found.reason,
    }),
  }),
})

const AuditSweep = builder.objectRef<Sweep>('AuditSweep').implement({
  description: 'A page of verifications, one per tenant.',
  fields: (t) => ({
    lines: t.field({
      type: [AuditVerification],
      description: 'A line per tenant, in the order of their ids; `last.tenantId` says whose it is.',
      resolve: ({ lines }) => lines,
    }),
    next: t.field({
      type: AuditHead,
      nullable: true,
      description: 'Give it as `after` for the next page; null when all were verified.',
      resolve: ({ next }) => next,
    }),
  }),
})

const AuditCheckpoint = builder.objectRef<Checkpoint>('AuditCheckpoint').implement({
  description: 'The last entry that was cut from a log, signed by the platform: what is left goes on after it.',
  authScopes: { scope: 'audit:read' },
  fields: (t) => ({
    seq: t.field({ type: 'BigInt', description: 'Number of the entry.', resolve: (row) => row.seq }),
    hash: t.exposeString('hash', { description: 'Hash of the entry.' }),
    cutAt: t.exposeString('cutAt', { description: 'When, in UTC to the microsecond, as it is signed.' }),
    keyId: t.exposeString('keyId', { description: 'Which key of the platform signed it.' }),
    signature: t.exposeString('signature', { description: 'Ed25519, hexadecimal.' }),
  }),
})

const AuditRetention = builder.objectRef<Retention>('AuditRetention').implement({
  description: 'How long the audit log is kept.',
  authScopes: { scope: ['audit:read', 'platform:admin'] },
  fields: (t) => ({
    tenantId: t.exposeID('tenantId', { description: 'Whose log.' }),
    days: t.exposeInt('days', { description: 'Entries that are older are cut, once a day.' }),
    legalHold: t.exposeBoolean('legalHold', { description: 'While true nothing is cut.' }),
    checkpoint: t.field({
      type: AuditCheckpoint,
      nullable: true,
      description: 'Where the log begins since it was last cut.',
      resolve: (row) => row.checkpoint,
    }),
  }),
})

const SetAuditRetentionInput = builder.inputType('SetAuditRetentionInput', {
  description: 'How long to keep the audit log of a tenant; what is absent stays.',
  fields: (t) => ({
    tenantId: t.id({ required: true, description: 'Which tenant.' }),
    days: t.int({ description: `Days, ${retentionDays.min} to ${retentionDays.max}.` }),
    legalHold: t.boolean({ description: 'Whether to keep everything until further notice.' }),
    idempotencyKey: t.string(keyField),
  }),
})

const SetAuditRetentionPayload = builder
  .objectRef<{ retention?: Retention; errors: Refusal[] }>('SetAuditRetentionPayload')
  .implement({
    description: 'The retention as it stands now.',
    fields: (t) => ({
      retention: t.field({
        type: AuditRetention,
        nullable: true,
        description: 'The retention.',
        resolve: (row) => row.retention,
      }),
      errors: t.field({ type: [UserError], description: 'Why it was refused.', resolve: ({ errors }) => errors }),
    }),
  })

const AuditLink = builder.inputType('AuditLink', {
  description: 'A place in the audit log, as `auditHead` gave it.',
  fields: (t) => ({
    seq: t.field({ type: 'BigInt', required: true, description: 'Number of the entry.' }),
    hash: t.string({ required: true, description: 'Hash of the entry.' }),
  }),
})

builder.queryFields((t) => ({
  auditHead: t.field({
    type: AuditHead,
    description: 'The last entry of the audit log: keep it, and give it to `verifyAudit` later.',
    authScopes: { scope: 'audit:read' },
    resolve: (_root, _args, context) => readAuditHead(context),
  }),
  verifyAudit: t.field({
    type: AuditVerification,
    description: 'Recomputes the chain of the audit log, up to 200,000 entries at once.',
    extensions: { waits: 1 },
    authScopes: { scope: 'audit:read' },
    args: {
      after: t.arg({
        type: AuditLink,
        description:
          'An entry that was seen before: it must still be there, and what follows is verified. Default: all.',
      }),
    },
    resolve: (_root, { after }, context) => verifyAuditLog(context, after ?? undefined),
  }),
  verifyAudits: t.field({
    type: AuditSweep,
    description:
      'Recomputes the chains of all tenants, page by page, up to 100 tenants or about 200,000 entries at once. For auditors of the platform; it shows no entry.',
    extensions: { waits: 1 },
    authScopes: { scope: 'platform:audit' },
    args: {
      after: t.arg({ type: AuditPlace, description: 'The `next` of the page before.' }),
      witnesses: t.arg({
        type: [AuditPlace],
        description: 'Heads that were kept, of any tenants, 1,000 at most: each log must still hold its own.',
      }),
    },
    resolve: (_root, { after, witnesses }, context) => verifyAudits(context, after ?? undefined, witnesses ?? []),
  }),
  auditRetention: t.field({
    type: AuditRetention,
    description: 'How long the audit log is kept, and where it begins since it was last cut.',
    authScopes: { scope: 'audit:read' },
    args: {
      tenantId: t.arg.id({
        description: 'Whose; default: that of the tenant of the key. Another is for auditors of the platform.',
      }),
    },
    resolve: (_root, { tenantId }, context) => readRetention(context, tenantId),
  }),
  auditLog: t.field({
    type: AuditEventConnection,
    description: 'What was done in the tenant, newest first.',
    authScopes: { scope: 'audit:read' },
    args: {
      ...pageArgs,
      filter: t.arg({ type: AuditFilter, description: 'Which entries; default: all.' }),
      tenantId: t.arg.id({
        description: 'Whose log; default: that of the tenant of the key. Another is for auditors of the platform.',
      }),
    },
    resolve: (_root, { filter, tenantId, ...args }, context) => listAudit(context, args, filter ?? {}, tenantId),
  }),
}))

builder.mutationFields((t) => ({
  setAuditRetention: t.field({
    type: SetAuditRetentionPayload,
    description: 'Says how long a tenant’s audit log is kept, or holds all of it. For the platform.',
    authScopes: { scope: 'platform:admin' },
    args: { input: t.arg({ type: SetAuditRetentionInput, required: true, description: 'The tenant and the time.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'setAuditRetention', input, async (context) => ({
        retention: await setRetention(context, input.tenantId, input),
      })),
  }),
}))
