import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { version } from '@duckdb/node-api'
import { AppError } from '../../shared/errors.ts'
import { literal } from './names.ts'

/** A folder of extensions, laid out as DuckDB's own (`v1.5.6/linux_amd64/httpfs.duckdb_extension`), or `install`. */
export type Extensions = string

const platforms: Readonly<Record<string, string>> = {
  'linux-x64': 'linux_amd64',
  'linux-arm64': 'linux_arm64',
  'darwin-x64': 'osx_amd64',
  'darwin-arm64': 'osx_arm64',
  'win32-x64': 'windows_amd64',
}

/** The extension with the cipher that the engine writes encrypted files with; it speaks to S3 as well. */
export const cryptoExtension = 'httpfs'

/** Where an extension of this engine's version stands in a folder of extensions. */
export const extensionFile = (folder: string, name: string): string =>
  join(folder, version(), platforms[`${process.platform}-${process.arch}`] ?? 'unknown', `${name}.duckdb_extension`)

/**
 * Statements that load extensions, in this order. The engine checks that DuckDB's own makers have signed them, and that
 * they are of its own version. Throws CONFIG_INVALID when one is not there.
 */
export async function extensionsOf(from: Extensions | undefined, names: readonly string[]): Promise<string[]> {
  if (from === 'install') return names.flatMap((name) => [`INSTALL ${name}`, `LOAD ${name}`])
  const files = names.map((name) => ({ name, file: from === undefined ? undefined : extensionFile(from, name) }))
  for (const { name, file } of files)
    if (file === undefined || !(await isThere(file)))
      throw new AppError('CONFIG_INVALID', `DuckDB's extension ${name} of version ${version()} is not installed.`, {
        hint: 'Set LAKE_EXTENSIONS to the folder that has it, or to install.',
      })
  return files.map(({ file }) => `LOAD ${literal(file ?? '')}`)
}

/** True when all of these are in the folder. Whether `install` will find them is known only when it has. */
export async function haveExtensions(from: Extensions | undefined, names: readonly string[]): Promise<boolean> {
  if (from === undefined || from === 'install') return from === 'install'
  return (await Promise.all(names.map((name) => isThere(extensionFile(from, name))))).every(Boolean)
}

const isThere = (file: string): Promise<boolean> =>
  access(file).then(
    () => true,
    () => false,
  )
