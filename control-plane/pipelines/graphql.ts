import { findPipeline } from '../../shared/pipelines/find-pipeline.ts'
import { type Template as TemplateRow, tenantTemplates } from '../../shared/pipelines/templates.ts'
import type { PlannedStep } from '../../shared/runs/plan.ts'
import { inTenant } from '../context.ts'
import { builder } from '../graphql/builder.ts'
import { QueueType, StepTrigger } from '../graphql/enums.ts'
import { pageArgs, readPage } from '../graphql/page.ts'
import { answer, type Refusal, refusalOfProblem, UserError } from '../graphql/user-errors.ts'
import { answerOnce, keyField } from '../idempotency/answer-once.ts'
import { currentText, listPipelines, type PipelineRow } from './list-pipelines.ts'
import { savePipeline } from './save-pipeline.ts'
import { validatePipeline } from './validate-pipeline.ts'

const PipelineOrigin = builder.enumType('PipelineOrigin', {
  description: 'Where the text of a pipeline comes from.',
  values: {
    TENANT: { value: 'tenant', description: 'The tenant saved it.' },
    TEMPLATE: { value: 'template', description: 'It ships with the platform; the tenant has run it.' },
  } as const,
})

/** A pipeline of the tenant. */
export const Pipeline = builder.objectRef<PipelineRow>('Pipeline').implement({
  description: 'A pipeline of the tenant: one that it saved, or a template that it has run.',
  authScopes: { scope: ['pipelines:read', 'pipelines:write'] },
  fields: (t) => ({
    id: t.exposeID('id', { description: 'Begins with `pip_`.' }),
    path: t.exposeString('path', { description: '`<provider>/<domain>/<template>`, its public name.' }),
    origin: t.field({ type: PipelineOrigin, description: 'Where it comes from.', resolve: (row) => row.origin }),
    version: t.exposeInt('currentVersion', { description: 'The current version, from 1.' }),
    yaml: t.string({
      description: 'The text of the current version.',
      resolve: async (row, _args, context) => (await currentText(context, row)).yaml,
    }),
    sha256: t.string({
      description: 'SHA-256 of that text, in hexadecimal.',
      resolve: async (row, _args, context) => (await currentText(context, row)).sha256,
    }),
    createdAt: t.field({ type: 'DateTime', description: 'When it came.', resolve: (row) => row.createdAt }),
    updatedAt: t.field({ type: 'DateTime', description: 'When this version came.', resolve: (row) => row.updatedAt }),
  }),
})

const PipelineConnection = builder.connectionObject(
  { type: Pipeline, name: 'PipelineConnection', description: 'A page of pipelines.' },
  { name: 'PipelineEdge', description: 'A pipeline and its place in the list.' },
)

const Template = builder.objectRef<TemplateRow>('Template').implement({
  description: 'A pipeline that ships with the platform. It can be run by its path without being saved.',
  fields: (t) => ({
    path: t.exposeString('path', { description: '`<provider>/<domain>/<template>`, its public name.' }),
    yaml: t.exposeString('text', { description: 'Its text.' }),
    sha256: t.exposeString('sha256', { description: 'SHA-256 of its text, in hexadecimal.' }),
  }),
})

const TemplateConnection = builder.connectionObject(
  { type: Template, name: 'TemplateConnection', description: 'A page of templates.' },
  { name: 'TemplateEdge', description: 'A template and its place in the list.' },
)

const StepPlan = builder.objectRef<PlannedStep>('StepPlan').implement({
  description: 'A step as it would run.',
  fields: (t) => ({
    key: t.exposeString('key', { description: 'Its `step_id`.' }),
    type: t.exposeString('ps_type', { description: 'Its processor, `ps_type`.' }),
    queue: t.field({ type: QueueType, description: 'The queue that it goes through.', resolve: (step) => step.queue }),
    trigger: t.field({ type: StepTrigger, description: 'When it starts.', resolve: (step) => step.trigger }),
    needs: t.exposeStringList('needs', { description: 'Steps that it waits for.' }),
    credential: t.string({
      nullable: true,
      description: 'Name of the credential that it opens.',
      resolve: (step) => step.credential,
    }),
  }),
})

const ValidatePipelineInput = builder.inputType('ValidatePipelineInput', {
  description: 'A pipeline file to check.',
  fields: (t) => ({
    yaml: t.string({ required: true, description: 'Its text.' }),
    file: t.string({ description: 'The name to show in faults; default: pipeline.yml.' }),
  }),
})

type ValidatedShape = { isValid?: boolean; steps?: PlannedStep[]; warnings?: Refusal[]; errors: Refusal[] }
const ValidatePipelinePayload = builder.objectRef<ValidatedShape>('ValidatePipelinePayload').implement({
  description: 'What a pipeline file would run, or all that is wrong with it.',
  fields: (t) => ({
    isValid: t.boolean({ description: 'Whether it could be saved and run.', resolve: (row) => row.isValid ?? false }),
    steps: t.field({ type: [StepPlan], description: 'What it would run.', resolve: (row) => row.steps ?? [] }),
    warnings: t.field({
      type: [UserError],
      description: 'What looks wrong but does not keep it from running.',
      resolve: (row) => row.warnings ?? [],
    }),
    errors: t.field({
      type: [UserError],
      description: 'All that is wrong, in the order of the file.',
      resolve: (row) => row.errors,
    }),
  }),
})

const SavePipelineInput = builder.inputType('SavePipelineInput', {
  description: 'A pipeline file to save.',
  fields: (t) => ({
    path: t.string({ required: true, description: '`<provider>/<domain>/<template>` in lower case.' }),
    yaml: t.string({ required: true, description: 'Its text.' }),
    idempotencyKey: t.string(keyField),
  }),
})

type SavedShape = { pipeline?: PipelineRow; created?: boolean; warnings?: Refusal[]; errors: Refusal[] }
const SavePipelinePayload = builder.objectRef<SavedShape>('SavePipelinePayload').implement({
  description: 'The saved pipeline, or all that is wrong with it.',
  fields: (t) => ({
    pipeline: t.field({
      type: Pipeline,
      nullable: true,
      description: 'The pipeline with its newest version.',
      resolve: (row) => row.pipeline,
    }),
    created: t.boolean({
      description: 'Whether a new version was made; false for the text that it already has.',
      resolve: (row) => row.created ?? false,
    }),
    warnings: t.field({
      type: [UserError],
      description: 'What looks wrong but does not keep it from running.',
      resolve: (row) => row.warnings ?? [],
    }),
    errors: t.field({
      type: [UserError],
      description: 'All that is wrong, in the order of the file.',
      resolve: (row) => row.errors,
    }),
  }),
})

builder.queryFields((t) => ({
  pipelines: t.field({
    type: PipelineConnection,
    description: 'Pipelines of the tenant by path: saved ones, and templates that it has run.',
    authScopes: { scope: 'pipelines:read' },
    args: pageArgs,
    resolve: (_root, args, context) => listPipelines(context, args),
  }),
  pipeline: t.field({
    type: Pipeline,
    nullable: true,
    description: 'A pipeline of the tenant; null when it has none of this path.',
    authScopes: { scope: 'pipelines:read' },
    args: { path: t.arg.string({ required: true, description: '`<provider>/<domain>/<template>`.' }) },
    resolve: async (_root, { path }, context) =>
      (await inTenant(context, (tx, { tenantId }) => findPipeline(tx, tenantId, path))) ?? null,
  }),
  templates: t.field({
    type: TemplateConnection,
    description: 'Pipelines that ship with the platform, by path.',
    authScopes: { scope: 'pipelines:read' },
    args: pageArgs,
    resolve: (_root, args, context) =>
      readPage<TemplateRow>(context, args, {
        list: ['templates'],
        position: (row) => [row.path, ''],
        read: async (limit, after) => tenantTemplates.filter(({ path }) => !after || path > after[0]).slice(0, limit),
      }),
  }),
}))

builder.mutationFields((t) => ({
  validatePipeline: t.field({
    type: ValidatePipelinePayload,
    description: 'Checks a pipeline file as saving and running it would, and changes nothing.',
    authScopes: { scope: 'pipelines:read' },
    args: { input: t.arg({ type: ValidatePipelineInput, required: true, description: 'The file.' }) },
    resolve: (_root, { input }, context) =>
      answer(async () => {
        const { steps, problems, warnings } = await validatePipeline(context, input)
        return {
          isValid: problems.length === 0,
          steps,
          warnings: warnings.map(refusalOfProblem),
          errors: problems.map(refusalOfProblem),
        }
      }),
  }),
  savePipeline: t.field({
    type: SavePipelinePayload,
    description: 'Saves a pipeline file as the newest version of its path. It then wins over a template of that path.',
    authScopes: { scope: 'pipelines:write' },
    args: { input: t.arg({ type: SavePipelineInput, required: true, description: 'The file.' }) },
    resolve: (_root, { input }, context) =>
      answerOnce(context, 'savePipeline', input, async (context): Promise<SavedShape> => {
        const saved = await savePipeline(context, input)
        if ('problems' in saved) return { errors: saved.problems.map(refusalOfProblem) }
        return { ...saved, warnings: saved.warnings.map(refusalOfProblem), errors: [] }
      }),
  }),
}))
