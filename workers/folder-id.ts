import { randomUUID } from 'node:crypto'
import { access, constants, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../shared/errors.ts'

/**
 * What names a data folder wherever it is mounted: made once and kept in it. Makes the folder. Throws BAD_INPUT when this
 * process may not write there.
 */
export async function folderId(dataDir: string): Promise<string> {
  const file = join(dataDir, 'folder-id')
  const draft = join(dataDir, `.folder-id-${randomUUID()}`)
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 })
    await access(dataDir, constants.R_OK | constants.W_OK | constants.X_OK)
    await writeFile(draft, `fld_${randomUUID().replaceAll('-', '')}\n`, { flag: 'wx', mode: 0o600 })
    try {
      // Whole or not at all, and of several processes that start together one makes it.
      await link(draft, file).catch((error: unknown) => {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      })
    } finally {
      await rm(draft, { force: true })
    }
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    throw new AppError('BAD_INPUT', `The folder ${dataDir} cannot be used.`, {
      hint: 'Set TRIBUTARY_DATA_DIR to a folder that this process may write.',
      cause: error,
    })
  }
}
