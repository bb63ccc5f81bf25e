import { and, eq, sql } from 'drizzle-orm'
import { webhook, webhookMessage } from '../../schema/tables/index.ts'
import { rowsOf, type Tx, withLedger, withTenant } from '../../shared/db/db.ts'
import { AppError } from '../../shared/errors.ts'
import { isId } from '../../shared/ids.ts'
import type { Ports } from '../../shared/ports.ts'
import { startInTransaction } from '../../shared/runs/start-in-transaction.ts'
import { announce } from '../../shared/schedules/fire-due.ts'
import { openWebhook, type WebhookRow } from '../../shared/webhooks/open-webhook.ts'
import { isSigned, isTimely, makeWebhookSecret, type SignedMessage } from '../../shared/webhooks/signature.ts'
import { readText } from '../http/read-body.ts'

/** Bytes of the body of a message. */
export const messageBytesMax = 262_144

/** What a message started. `created` is false for one that was taken before. */
export type Received = { runId: string; created: boolean }

/**
 * Takes a signed message for a webhook and starts its run. Nothing is looked up before id, time and size fit, and nothing
 * is told to whoever cannot sign: an unknown hook, a wrong signature and an old message are one UNAUTHENTICATED. A message
 * is taken once: a repeat answers the first run. Throws TOO_LARGE, RATE_LIMITED, BAD_INPUT for a body that is no JSON
 * object, PARAMETER_INVALID, and what keeps its run from starting.
 */
export async function receiveMessage(
  ports: Ports,
  request: Request,
  hookId: string,
  requestId: string,
): Promise<Received> {
  const body = await readText(request, messageBytesMax)
  const message = signedMessage(request.headers, body)
  if (!message || !isId('webhook', hookId) || !isTimely(message.timestamp, ports.clock.now())) throw unsigned()
  const row = await authentic(ports, hookId, message)
  if (!row) throw unsigned()
  await refuseTooOften(ports, row)
  const parameters = parametersOf(row, body)
  const received = await withTenant(ports.db, { tenantId: row.tenantId, side: 'api' }, (tx) =>
    take(tx, row, message.id, parameters, requestId),
  )
  if (received.created) await announce(ports, { tenantId: row.tenantId, runId: received.runId }, 'api')
  return received
}

function signedMessage(headers: Headers, body: string): SignedMessage | undefined {
  const [id, timestamp, signature] = ['id', 'timestamp', 'signature'].map(
    (name) => headers.get(`webhook-${name}`) ?? '',
  )
  if (!id || !timestamp || !signature || !/^[\x21-\x7e]{1,200}$/.test(id) || id.includes('.')) return undefined
  return { id, timestamp, signature, body }
}

const unsigned = (): AppError =>
  new AppError('UNAUTHENTICATED', 'There is no such webhook, or the message is not signed for it.', {
    hint: 'Sign <webhook-id>.<webhook-timestamp>.<body> with the secret of the webhook, within five minutes.',
  })

// A hook that does not exist costs a signature too: how long the answer takes must tell no more than the answer.
async function authentic(ports: Ports, id: string, message: SignedMessage): Promise<WebhookRow | undefined> {
  const [owner] = await withLedger(ports.db, 'api', (tx) =>
    rowsOf<{ tenantId: string }>(tx, sql`select o_tenant as "tenantId" from app.find_webhook(${id})`),
  )
  const opened =
    owner &&
    (await withTenant(ports.db, { tenantId: owner.tenantId, side: 'api' }, (tx) =>
      openWebhook(tx, ports.secrets, { tenantId: owner.tenantId, id, now: ports.clock.now() }),
    ))
  const isGood = await isSigned(opened?.secrets ?? [makeWebhookSecret()], message)
  return isGood ? opened?.row : undefined
}

// Counted for messages that are signed: nobody else can use up what a sender has.
async function refuseTooOften(ports: Ports, { tenantId, id, rateMax }: WebhookRow): Promise<void> {
  const [row] = await withTenant(ports.db, { tenantId, side: 'api' }, (tx) =>
    tx
      .update(webhook)
      .set({
        rateCount: sql`case when ${webhook.rateMinute} = date_trunc('minute', now()) then ${webhook.rateCount} + 1 else 1 end`,
        rateMinute: sql`date_trunc('minute', now())`,
        lastUsedAt: sql`now()`,
      })
      .where(and(eq(webhook.tenantId, tenantId), eq(webhook.id, id)))
      .returning({
        count: webhook.rateCount,
        left: sql<number>`ceil(60 - extract(second from now()))::int`,
      }),
  )
  if (!row) throw unsigned()
  if (row.count > rateMax)
    throw new AppError('RATE_LIMITED', `This webhook takes ${rateMax} messages a minute.`, {
      figures: { retryAfterSeconds: row.left },
    })
}

type Parameters = { parameters: Record<string, unknown>; offered: Record<string, unknown> }

function parametersOf({ mapping, parameters }: WebhookRow, body: string): Parameters {
  const content = jsonOf(body)
  if (typeof content !== 'object' || content === null || Array.isArray(content))
    throw new AppError('BAD_INPUT', 'The body must be a JSON object.')
  const mapped = Object.entries(mapping).flatMap(([name, path]) => {
    const value = valueAt(content, path)
    return value === undefined ? [] : [[name, value] as const]
  })
  return { parameters: { ...Object.fromEntries(mapped), ...parameters }, offered: { ...content } }
}

function jsonOf(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    throw new AppError('BAD_INPUT', 'The body is no JSON.')
  }
}

// Own properties only: nothing of JavaScript's is reached by a path.
function valueAt(content: object, path: string): unknown {
  let at: unknown = content
  for (const part of path.split('.')) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, part)) return undefined
    at = Reflect.get(at, part)
  }
  return at
}

async function take(
  tx: Tx,
  row: WebhookRow,
  messageId: string,
  given: Parameters,
  requestId: string,
): Promise<Received> {
  const { tenantId, id, pipeline, environment } = row
  const [known] = await tx
    .select({ runId: webhookMessage.runId })
    .from(webhookMessage)
    .where(
      and(eq(webhookMessage.tenantId, tenantId), eq(webhookMessage.webhookId, id), eq(webhookMessage.id, messageId)),
    )
  if (known) return { runId: known.runId, created: false }
  const started = await startInTransaction(tx, {
    ...given,
    tenantId,
    environment,
    requestId,
    actor: `webhook:${id}`,
    path: pipeline,
    trigger: 'webhook',
    idempotencyKey: `whk:${id}:${messageId}`,
    inputHash: null,
  })
  if ('problems' in started) {
    const [first] = started.problems
    throw new AppError('CONFIG_INVALID', `The pipeline is not usable: ${first?.message ?? 'unknown'}.`)
  }
  await tx
    .insert(webhookMessage)
    .values({ tenantId, webhookId: id, id: messageId, runId: started.runId })
    .onConflictDoNothing()
  return started
}
