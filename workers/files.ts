import { mkdirSync, realpathSync } from 'node:fs'
import { glob, lstat, mkdir, realpath } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { AppError } from '../shared/errors.ts'

/** A tenant's folder: paths of pipelines are relative to it and cannot leave it. */
export type TenantFiles = {
  /** Absolute path of the folder, symlinks resolved. */
  root: string
  /**
   * The absolute path of a tenant-relative one. Throws PATH_INVALID for an absolute path, `..`, a backslash, a control
   * character, or a symlink anywhere on the way.
   */
  resolve(path: string): Promise<string>
  /** As `resolve`, and makes the folders above it. */
  prepare(path: string): Promise<string>
  /** Tenant-relative paths of the regular files that match any of the patterns (`*`, `?`, `**`), sorted, without repeats. */
  match(patterns: string[]): Promise<string[]>
  /** The tenant-relative form of an absolute path inside the folder. */
  relative(path: string): string
}

/** Opens a tenant's folder; makes it when it is not there. */
export function tenantFiles(folder: string): TenantFiles {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const root = realpathSync(folder)

  async function resolve(path: string): Promise<string> {
    checkPath(path)
    const absolute = join(root, path)
    await refuseLinks(root, absolute, path)
    return absolute
  }

  return {
    root,
    resolve,
    async prepare(path) {
      const absolute = await resolve(path)
      await mkdir(dirname(absolute), { recursive: true, mode: 0o700 })
      return absolute
    },
    async match(patterns) {
      const found = new Set<string>()
      for (const pattern of patterns) {
        checkPath(pattern)
        for await (const entry of glob(pattern, { cwd: root, withFileTypes: true })) {
          if (!entry.isFile()) continue
          const absolute = join(entry.parentPath, entry.name)
          if ((await realpath(absolute)) === absolute) found.add(relative(root, absolute))
        }
      }
      return [...found].sort()
    },
    relative: (path) => relative(root, path),
  }
}

/** Throws PATH_INVALID unless `path` is a relative path (or pattern) that stays inside its folder. */
export function checkPath(path: string): void {
  const why = pathFault(path)
  if (why) throw new AppError('PATH_INVALID', `The path ${JSON.stringify(path)} is not usable: ${why}.`)
}

function pathFault(path: string): string | undefined {
  if (path === '' || path.length > 1024) return 'it must have 1 to 1,024 characters'
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  if (/[\u0000-\u001f\u007f]/.test(path)) return 'it holds a control character'
  if (path.includes('\\')) return 'it holds a backslash'
  if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return 'it is absolute'
  if (path.split('/').some((part) => part === '..' || part === '')) return 'it has an empty part or ".."'
  return undefined
}

// A symlink inside the folder could lead to another tenant's: DuckDB follows it, and so would every stream of ours.
async function refuseLinks(root: string, absolute: string, shown: string): Promise<void> {
  let current = root
  for (const part of relative(root, absolute).split(sep)) {
    current = join(current, part)
    const stat = await lstat(current).catch(() => undefined)
    if (!stat) return
    if (stat.isSymbolicLink())
      throw new AppError('PATH_INVALID', `The path ${JSON.stringify(shown)} leads over a link.`)
  }
}
