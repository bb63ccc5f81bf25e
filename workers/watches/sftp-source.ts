import { AppError } from '../../shared/errors.ts'
import { listRemote, sftpStatus } from '../delivery/sftp-remote.ts'
import { openSftp, type SftpSecret, type SftpSurroundings, statusOf } from '../delivery/sftp-session.ts'
import { entriesMax, type FileSource, isPlainName, type Listing, tooMany } from './file-source.ts'

/** Files that arrive on a tenant's SFTP server. Throws what `openSftp` throws, and SOURCE_FAILED for a refused listing. */
export async function sftpSource(secret: SftpSecret, around: SftpSurroundings): Promise<FileSource> {
  const session = await openSftp(secret, around)
  return {
    async list({ folder, matches }) {
      const listing: Listing = { files: [], refused: 0 }
      const entries = await listRemote(session, folder, entriesMax + 1).catch((error: unknown) => {
        const status = statusOf(error)
        if (status === undefined) throw error
        if (status === sftpStatus.noSuchFile) return []
        const what = status === sftpStatus.permissionDenied ? 'does not permit to list' : 'refused to list'
        throw new AppError('SOURCE_FAILED', `The server ${what} ${JSON.stringify(folder || '.')}.`, { cause: error })
      })
      if (entries.length > entriesMax) throw tooMany(folder)
      for (const { filename, attrs } of entries) {
        if (!matches(filename) || !attrs.isFile()) continue
        const modifiedAt = new Date(attrs.mtime * 1000)
        const isSound = Number.isSafeInteger(attrs.size) && attrs.size >= 0 && !Number.isNaN(modifiedAt.getTime())
        if (isPlainName(filename) && isSound) listing.files.push({ name: filename, size: attrs.size, modifiedAt })
        else listing.refused++
      }
      return listing
    },
    [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
  }
}
