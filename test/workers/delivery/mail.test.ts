import { once } from 'node:events'
import net from 'node:net'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import { expect, test } from 'vitest'
import { sendMail, smtpShape } from '../../../workers/delivery/mail.ts'

const signal = new AbortController().signal
const mail = { to: ['ana@guru.example'], subject: 'Orders: 3 new', text: 'Zeile 1\nZeile 2 äöü\n', messageId: 'out_42' }

type Mailbox = AsyncDisposable & { url: string; letters: { to: string[]; text: string }[] }

async function mailbox(options: SMTPServerOptions = {}): Promise<Mailbox> {
  const letters: Mailbox['letters'] = []
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onData(stream, session, done) {
      let text = ''
      stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
      stream.on('end', () => {
        letters.push({ to: session.envelope.rcptTo.map((to) => to.address), text })
        done()
      })
    },
    ...options,
  })
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  const { port } = server.server.address() as net.AddressInfo
  return {
    url: `smtp://127.0.0.1:${port}`,
    letters,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  }
}
const config = (url: string) => smtpShape.parse({ url, from: 'Tributary <alerts@tributary.example>' })

test('a mail arrives with its text, its sender and an id that a repeat keeps', async () => {
  await using box = await mailbox()
  expect(await sendMail(config(box.url), mail, signal)).toEqual({ refused: [] })
  await sendMail(config(box.url), mail, signal)
  expect(box.letters.map((letter) => letter.to)).toEqual([mail.to, mail.to])
  for (const { text } of box.letters) {
    expect(text).toMatch(/^Message-ID: <out_42@tributary\.example>\r?$/im)
    expect(text).toMatch(/^From: Tributary <alerts@tributary\.example>\r?$/m)
    expect(text).toMatch(/^Subject: Orders: 3 new\r?$/m)
  }
})

test('a line break in subject or address sends nothing', async () => {
  await using box = await mailbox()
  const evil = [
    { subject: 'Hi\r\nBcc: eve@evil.example' },
    { subject: 'Hi\nX: y' },
    { to: ['ana@guru.example\r\nRCPT TO:<eve@evil.example>'] },
    { messageId: 'a\r\nb' },
  ]
  for (const change of evil)
    await expect(sendMail(config(box.url), { ...mail, ...change }, signal)).rejects.toMatchObject({
      code: 'MAIL_FAILED',
      retry: 'never',
    })
  expect(box.letters).toEqual([])
})

test('an address list in one entry does not become more recipients', async () => {
  await using box = await mailbox()
  await sendMail(config(box.url), { ...mail, to: ['ana@guru.example, eve@evil.example'] }, signal).catch(() => {})
  expect(box.letters.flatMap((letter) => letter.to)).not.toContain('eve@evil.example')
})

test('the account of the url is used, and a refusal of it is not repeated', async () => {
  const accounts: string[] = []
  await using box = await mailbox({
    authOptional: false,
    allowInsecureAuth: true,
    onAuth({ username, password }, _session, done) {
      accounts.push(`${username}/${password}`)
      if (password === 'p@ss/word') done(null, { user: username })
      else done(new Error('no'))
    },
  })
  const at = (password: string) => config(box.url.replace('//', `//us%40er:${encodeURIComponent(password)}@`))
  await sendMail(at('p@ss/word'), mail, signal)
  expect([accounts, box.letters.length]).toEqual([['us@er/p@ss/word'], 1])
  await expect(sendMail(at('wrong'), mail, signal)).rejects.toMatchObject({ code: 'MAIL_FAILED', retry: 'never' })
})

test('a recipient that the server refuses is named, the others get the mail', async () => {
  await using box = await mailbox({
    onRcptTo: ({ address }, _session, done) =>
      address.startsWith('gone') ? done(Object.assign(new Error('unknown'), { responseCode: 550 })) : done(),
  })
  const sent = await sendMail(config(box.url), { ...mail, to: ['gone@guru.example', ...mail.to] }, signal)
  expect([sent.refused, box.letters.map((letter) => letter.to)]).toEqual([['gone@guru.example'], [mail.to]])
})

test('a server that is busy or away is tried again later', async () => {
  await using busy = await mailbox({
    onMailFrom: (_address, _session, done) => done(Object.assign(new Error('busy'), { responseCode: 451 })),
  })
  await expect(sendMail(config(busy.url), mail, signal)).rejects.toMatchObject({ code: 'MAIL_FAILED', retry: 'later' })
  const away = await mailbox()
  await away[Symbol.asyncDispose]()
  await expect(sendMail(config(away.url), mail, signal)).rejects.toMatchObject({ code: 'MAIL_FAILED', retry: 'later' })
})

test('a cancel does not wait for a server that stays silent', async () => {
  const mute = net.createServer().listen(0, '127.0.0.1')
  await once(mute, 'listening')
  const controller = new AbortController()
  mute.once('connection', () => controller.abort())
  const { port } = mute.address() as net.AddressInfo
  await expect(sendMail(config(`smtp://127.0.0.1:${port}`), mail, controller.signal)).rejects.toMatchObject({
    code: 'CANCELLED',
  })
  mute.close()
})

test.each(['http://mail.example', 'mail.example', 'smtp://'])('%s is no mail server', (url) => {
  expect(smtpShape.safeParse({ url, from: 'a@b.example' }).success).toBe(false)
})
