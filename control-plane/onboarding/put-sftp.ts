import type { Tx } from '../../shared/db/db.ts'
import { authOf, type Context } from '../context.ts'
import { putCredential } from '../credentials/update-credential.ts'
import { sftpCredentialName } from './input.ts'

/** Stores the server of the request; again with a new version when a first try showed that it was wrong. */
export function putSftp(context: Context, tx: Tx, tenantId: string, secret: Record<string, unknown>): Promise<void> {
  return putCredential(tx, context.ports.secrets, {
    tenantId,
    name: sftpCredentialName,
    provider: 'sftp',
    secret,
    actor: authOf(context).actor,
    requestId: context.requestId,
  })
}
