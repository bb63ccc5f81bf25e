import { z } from 'zod'
import { defineProcessor, type StepContext, type StepResult } from '../../define.ts'

const settingsShape = z.strictObject({
  to_emails: z.array(z.email()).min(1).max(50).describe('Who gets the mail.'),
  subject: z
    .string()
    .min(1)
    .max(200)
    .regex(/^[^\r\n\0]*$/, 'must be one line')
    .optional()
    .describe('Default: the pipeline and the step reached.'),
  body: z.string().min(1).max(20_000).optional().describe('Plain text. Default: which run of which pipeline it was.'),
})

/**
 * `notify_systems.email_notification`: asks for a mail. It is sent once the step is complete, from the outbox of the
 * ledger, so that a repeated step does not send it twice.
 */
export default defineProcessor({
  type: 'notify_systems.email_notification',
  title: 'Send an e-mail',
  description: 'Sends a plain-text mail about this run to the given addresses.',
  queue: 'delivery',
  settings: settingsShape,
  credentialProviders: [],
  writes: false,
  run: notify,
})

async function notify(ctx: StepContext, settings: z.output<typeof settingsShape>): Promise<StepResult> {
  const recipients = [...new Set(settings.to_emails)]
  const subject = settings.subject ?? `Pipeline ${ctx.run.pipelineId}: step ${ctx.step.key} reached`
  const text = settings.body ?? defaultBody(ctx)
  return { outputs: { recipients }, mail: [{ to: recipients, subject, text }] }
}

const defaultBody = (ctx: StepContext): string =>
  [
    `A run of the pipeline ${ctx.run.pipelineId} has reached the step ${ctx.step.key}.`,
    '',
    `Tenant:   ${ctx.tenant.companyName} (${ctx.tenant.id})`,
    `Run:      ${ctx.run.id}`,
    `Started:  ${ctx.run.trigger}, by ${ctx.run.actor}`,
    '',
  ].join('\n')
