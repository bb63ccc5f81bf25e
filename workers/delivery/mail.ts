import { createTransport } from 'nodemailer'
import { z } from 'zod'
import { AppError } from '../../shared/errors.ts'
import { abortedError, orAborted } from '../aborted.ts'
import type { Mail } from '../define.ts'

const timeoutMs = 20_000

const oneLine = /^[^\r\n\0]*$/

/**
 * The operator's mail server: `smtp://user:password@host:587` (STARTTLS when offered) or `smtps://…:465`, and the sender,
 * `alerts@example.com` or `Tributary <alerts@example.com>`. It is the deployment's own, so it may be on a private address.
 */
export const smtpShape = z.object({
  url: z.url({ protocol: /^smtps?$/, hostname: /./ }),
  from: z
    .string()
    .regex(oneLine, 'must be one line')
    .regex(/^([^<>]*<)?[^\s<>@]+@[^\s<>@]+>?$/, 'must hold one address'),
})
/** Where and as whom mail is sent. */
export type SmtpConfig = z.output<typeof smtpShape>

/**
 * Hands a mail to the server and returns once it took it for at least one recipient; `refused` names the others.
 * `messageId`, an outbox id, becomes the Message-ID: a mail sent again after a crash carries the same one, by which
 * servers and readers drop the repeat. Text only; a line break in subject or address is refused, not repaired.
 * Throws MAIL_FAILED (retry never when the server refused for good) and the signal's error.
 */
export async function sendMail(
  config: SmtpConfig,
  mail: Mail & { messageId: string },
  signal: AbortSignal,
): Promise<{ refused: string[] }> {
  for (const line of [mail.subject, mail.messageId, ...mail.to])
    if (!oneLine.test(line))
      throw new AppError('MAIL_FAILED', 'A subject or an address of this mail has a line break.', { retry: 'never' })
  const server = transportTo(config)
  try {
    const sent = await orAborted(
      server.sendMail({
        from: config.from,
        to: mail.to.map((address) => ({ name: '', address })),
        subject: mail.subject,
        text: mail.text,
        messageId: `<${mail.messageId}@${domainOf(config.from)}>`,
        headers: { 'Auto-Submitted': 'auto-generated' },
      }),
      signal,
    )
    return {
      refused: sent.rejected.map((to: string | { address: string }) => (typeof to === 'string' ? to : to.address)),
    }
  } catch (cause) {
    if (signal.aborted) throw abortedError(signal)
    throw mailError(cause)
  } finally {
    server.close()
  }
}

/** Connects, greets and logs in as `sendMail` does, and sends nothing. Throws MAIL_FAILED and the signal's error. */
export async function checkMail(config: SmtpConfig, signal: AbortSignal): Promise<void> {
  const server = transportTo(config)
  try {
    await orAborted(server.verify(), signal)
  } catch (cause) {
    if (signal.aborted) throw abortedError(signal)
    throw mailError(cause)
  } finally {
    server.close()
  }
}

const transportTo = (config: SmtpConfig) =>
  createTransport({
    ...serverOf(config.url),
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  })

function serverOf(text: string): {
  host: string
  port: number
  secure: boolean
  auth?: { user: string; pass: string }
} {
  const url = new URL(text)
  const secure = url.protocol === 'smtps:'
  const auth = url.username
    ? { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) }
    : undefined
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port) || (secure ? 465 : 587),
    secure,
    ...(auth && { auth }),
  }
}

const domainOf = (from: string): string => /@([^\s<>@]+?)>?$/.exec(from)?.[1] ?? 'localhost'

function mailError(cause: unknown): AppError {
  const reply = cause instanceof Error && 'responseCode' in cause ? Number(cause.responseCode) : undefined
  // 5xx is for good (RFC 5321); what has no reply is the network, and may be better next time.
  const isFinal = reply !== undefined && reply >= 500
  const message = reply ? `The mail server answered ${reply}.` : 'The mail server cannot be reached.'
  return new AppError('MAIL_FAILED', message, { cause, retry: isFinal ? 'never' : 'later' })
}
