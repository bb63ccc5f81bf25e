import { errorData } from '../../shared/errors.ts'
import { checkMail } from '../../workers/delivery/mail.ts'
import { type Check, fail, ok } from './finding.ts'

/** The mail server takes the login; nothing is sent. */
export const mail: Check = {
  name: 'mail',
  concerns: ({ mail: server }) => server !== undefined,
  async look({ mail: server }, signal) {
    if (!server) return []
    try {
      await checkMail(server, signal)
      return ok('The server answers and takes the login.')
    } catch (error) {
      const { code, message } = errorData(error)
      return fail(
        `${code}: ${message}`,
        'Correct SMTP_URL: host, port, user and password; smtps:// for TLS from the start.',
      )
    }
  },
}
