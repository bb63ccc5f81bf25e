import { z } from 'zod'
import { linkSeed, linkToken } from '../shared/auth/account-link.ts'
import { AppError, errorData } from '../shared/errors.ts'
import type { Ports } from '../shared/ports.ts'
import { liveSecrets } from '../shared/redact.ts'
import { claimOutbox, type DueMessage, finishOutbox } from '../shared/runs/ledger.ts'
import { sendMail, type SmtpConfig } from './delivery/mail.ts'

/** The mail server of the deployment. */
export type MailServer = SmtpConfig

const mailPayload = z.object({
  to: z.array(z.string()).min(1),
  subject: z.string(),
  text: z.string(),
  link: linkSeed.extend({ page: z.string().nullable() }).optional(),
})
const leaseMs = 60_000

/**
 * Sends what is due in the outbox, at most 20 messages a call. A message is sent at least once; its Message-ID is the
 * outbox id, so that a receiver can know a repeat. A refused one waits 30 s, doubled with each try, ten tries in all.
 */
export async function sendDueMessages(ports: Ports, server: MailServer, signal: AbortSignal): Promise<void> {
  for (const message of await claimOutbox(ports.db, 20, leaseMs)) {
    if (signal.aborted) return
    await finishOutbox(
      ports.db,
      message,
      await send(ports, message, server, signal),
      Math.min(3_600_000, 30_000 * 2 ** (message.attempts - 1)),
    )
  }
}

async function send(
  ports: Ports,
  message: DueMessage,
  server: MailServer,
  signal: AbortSignal,
): Promise<ReturnType<typeof errorData> | null> {
  const mail = mailPayload.safeParse(message.payload)
  if (!mail.success) return errorData(new AppError('BAD_INPUT', 'The message has no recipient, subject or text.'))
  try {
    const { to, subject, text, link } = mail.data
    await sendMail(server, { to, subject, text: await withLink(ports, text, link), messageId: message.id }, signal)
    return null
  } catch (error) {
    // A mail server may repeat what it was given.
    const data = errorData(error)
    return { ...data, message: liveSecrets.text(data.message) }
  }
}

// The secret of a link is made here and stands in no table; a page gets it behind `#`, which no server is sent.
async function withLink({ signing }: Ports, text: string, link: z.output<typeof mailPayload>['link']): Promise<string> {
  if (!link) return text
  const token = await linkToken(signing, link)
  if (token === undefined) throw new AppError('MAIL_FAILED', 'The key of this link is not configured any more.')
  return text.replaceAll('{link}', link.page === null ? token : `${link.page}#${token}`)
}
