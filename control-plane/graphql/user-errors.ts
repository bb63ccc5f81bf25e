import { type Problem, type ProblemCode, problemCodes } from '../../shared/config/problems.ts'
import { AppError, type ErrorCode, errorCodes, type RefusalFigures } from '../../shared/errors.ts'
import { quotaError } from '../../shared/quota-error.ts'
import { builder } from './builder.ts'

/** A refusal that the caller can act on: an item of `errors` in a mutation's payload. */
export type Refusal = {
  code: ErrorCode
  message: string
  hint: string
  path: string[] | null
  place?: { file: string | null; line: number | null; column: number | null; problem: ProblemCode | null }
} & RefusalFigures

/**
 * A mutation's payload: what `work` answers and its `errors`, or the errors alone. An AppError that the caller can act
 * on becomes one; missing rights and faults of ours are thrown on.
 */
export async function answer<T extends object>(work: () => Promise<T>): Promise<Partial<T> & { errors: Refusal[] }> {
  try {
    return { errors: [], ...(await work()) }
  } catch (thrown) {
    const error = quotaError(thrown) ?? thrown
    if (!(error instanceof AppError) || thrownCodes.includes(error.code)) throw error
    // Without the result's own fields a Partial is complete.
    return { errors: [refusalOf(error)] } as Partial<T> & { errors: Refusal[] }
  }
}

/** An AppError as an item of `errors`. */
export function refusalOf(error: Pick<AppError, 'code' | 'message' | 'hint' | 'place' | 'figures'>): Refusal {
  const { place } = error
  return {
    code: error.code,
    message: error.message,
    hint: error.hint,
    path: place?.path === undefined ? null : [place.path],
    ...error.figures,
    ...(place?.line === undefined
      ? {}
      : { place: { file: place.file ?? null, line: place.line, column: place.column ?? null, problem: null } }),
  }
}

/** A problem of a pipeline file as an item of `errors` or `warnings`. */
export function refusalOfProblem(problem: Problem): Refusal {
  return {
    code: 'CONFIG_INVALID',
    message: problem.message,
    hint: problem.hint ?? errorCodes.CONFIG_INVALID.hint,
    path: problem.path === '' ? null : [problem.path],
    place: { file: problem.file, line: problem.line, column: problem.column, problem: problem.code },
  }
}

const thrownCodes: readonly ErrorCode[] = ['UNAUTHENTICATED', 'FORBIDDEN', 'INTERNAL', 'SECRET_UNREADABLE']

/** Every code of the closed list. */
export const ErrorCodeEnum = builder.enumType('ErrorCode', {
  description: 'What went wrong, from a closed list. Each description says what helps.',
  values: Object.fromEntries(
    Object.entries(errorCodes).map(([code, { hint }]) => [code, { value: code as ErrorCode, description: hint }]),
  ),
})

const ProblemCodeEnum = builder.enumType('ProblemCode', {
  description: 'What is wrong in a pipeline file, from a closed list.',
  values: Object.fromEntries(
    problemCodes.map((code) => [code, { value: code, description: problemDescriptions(code) }]),
  ),
})

/** The interface of refusals. */
export const UserError = builder.interfaceRef<Refusal>('UserError').implement({
  description: 'A refusal that the caller can act on.',
  resolveType: ({ quota, version, retryAfterSeconds, place }) =>
    retryAfterSeconds !== undefined
      ? 'RateLimitError'
      : quota
        ? 'QuotaError'
        : version
          ? 'VersionConflict'
          : place
            ? 'ValidationError'
            : 'RequestError',
  fields: (t) => ({
    code: t.field({ type: ErrorCodeEnum, description: 'What went wrong.', resolve: (refusal) => refusal.code }),
    message: t.exposeString('message', { description: 'The same in words, for people.' }),
    hint: t.exposeString('hint', { description: 'What to do about it.' }),
    path: t.exposeStringList('path', {
      nullable: true,
      description: 'The part of the input or of the file it is about.',
    }),
  }),
})

builder.objectType(builder.objectRef<Refusal>('RequestError'), {
  description: 'A refusal that concerns the request as a whole.',
  interfaces: [UserError],
})

builder.objectType(builder.objectRef<Refusal>('ValidationError'), {
  description: 'A fault in a pipeline file, with its place.',
  interfaces: [UserError],
  fields: (t) => ({
    problem: t.field({
      type: ProblemCodeEnum,
      nullable: true,
      description: 'The kind of fault.',
      resolve: ({ place }) => place?.problem ?? null,
    }),
    file: t.string({ nullable: true, description: 'The file.', resolve: ({ place }) => place?.file ?? null }),
    line: t.int({ nullable: true, description: 'The line, from 1.', resolve: ({ place }) => place?.line ?? null }),
    column: t.int({
      nullable: true,
      description: 'The column, from 1.',
      resolve: ({ place }) => place?.column ?? null,
    }),
  }),
})

builder.objectType(builder.objectRef<Refusal>('QuotaError'), {
  description: 'A limit of the plan is reached.',
  interfaces: [UserError],
  fields: (t) => ({
    quota: t.string({
      description: 'Which limit, as `usage` of a tenant names it.',
      resolve: ({ quota }) => quota?.name ?? '',
    }),
    limit: t.field({
      type: 'BigInt',
      description: 'What the tenant may use.',
      resolve: ({ quota }) => quota?.limit ?? 0,
    }),
    used: t.field({ type: 'BigInt', description: 'What is in use.', resolve: ({ quota }) => quota?.used ?? 0 }),
    resetsAt: t.field({
      type: 'DateTime',
      nullable: true,
      description: 'When it starts again from nothing; null for what has to be given up first.',
      resolve: ({ quota }) => (quota?.resetsAt ? new Date(quota.resetsAt) : null),
    }),
  }),
})

builder.objectType(builder.objectRef<Refusal>('RateLimitError'), {
  description: 'There were too many attempts.',
  interfaces: [UserError],
  fields: (t) => ({
    retryAfterSeconds: t.int({
      description: 'When it may be tried again, in seconds from now.',
      resolve: ({ retryAfterSeconds }) => retryAfterSeconds ?? 0,
    }),
  }),
})

builder.objectType(builder.objectRef<Refusal>('VersionConflict'), {
  description: 'Somebody else has changed it meanwhile: read it again and decide.',
  interfaces: [UserError],
  fields: (t) => ({
    expectedVersion: t.int({
      description: 'The version that the change was made for.',
      resolve: ({ version }) => version?.expected ?? 0,
    }),
    currentVersion: t.int({ description: 'The version that it has.', resolve: ({ version }) => version?.current ?? 0 }),
  }),
})

function problemDescriptions(code: ProblemCode): string {
  const texts: Record<ProblemCode, string> = {
    YAML_SYNTAX: 'The text is not YAML.',
    TOO_LARGE: 'The file is larger or deeper than allowed.',
    ALIAS_REFUSED: 'YAML anchors and aliases are not taken.',
    DUPLICATE_KEY: 'A key stands twice.',
    UNKNOWN_KEY: 'A key that nothing reads.',
    MISSING_KEY: 'A key that must be there is not.',
    BAD_VALUE: 'A value of the wrong form.',
    UNKNOWN_PS_TYPE: 'No processor has this type.',
    DUPLICATE_STEP: 'Two steps have one name.',
    UNKNOWN_STEP: 'A step that is waited for does not exist.',
    STEP_CYCLE: 'Steps wait for each other.',
    UNKNOWN_PIPELINE: 'A pipeline that is followed does not exist.',
    PIPELINE_CYCLE: 'Pipelines follow each other.',
    QUOTE_PLACEHOLDER: 'YAML reads a bare {placeholder} as a map: put it in quotes.',
    UNKNOWN_VARIABLE: 'A placeholder that nothing defines.',
    SQL_INTERPOLATION: 'A placeholder in SQL that could only be pasted as text.',
    SECRET_LITERAL: 'A secret stands in the file: make it a credential.',
  }
  return texts[code]
}
