import { lstat, opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { tenantFiles } from '../files.ts'
import { entriesMax, type FileSource, isPlainName, type Listing, tooMany } from './file-source.ts'

/** Files that arrive in a tenant's own folder. Links are no files, and a folder over a link is refused (PATH_INVALID). */
export function folderSource(root: string): FileSource {
  const files = tenantFiles(root)
  return {
    async list({ folder, matches }) {
      const path = folder === '' ? files.root : await files.resolve(folder)
      const listing: Listing = { files: [], refused: 0 }
      const entries = await opendir(path).catch(absent)
      if (!entries) return listing
      let seen = 0
      for await (const entry of entries) {
        if (++seen > entriesMax) throw tooMany(folder)
        if (!entry.isFile() || !matches(entry.name)) continue
        if (!isPlainName(entry.name)) listing.refused++
        else {
          const stat = await lstat(join(path, entry.name)).catch(absent)
          if (stat?.isFile()) listing.files.push({ name: entry.name, size: stat.size, modifiedAt: stat.mtime })
        }
      }
      return listing
    },
    async [Symbol.asyncDispose]() {},
  }
}

// What was not made yet, or went away while we looked.
function absent(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
    return undefined
  throw error
}
