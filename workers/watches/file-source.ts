import { AppError } from '../../shared/errors.ts'

/** A file where it was found. `modifiedAt` is what its system says, to the second or finer. */
export type ListedFile = { name: string; size: number; modifiedAt: Date }

/** One folder, and which names in it are meant. */
export type FilePattern = {
  /** Relative, without a slash at its end; empty for the top. */
  folder: string
  matches(name: string): boolean
}

/** What lies in a folder: the files that fit, and how many fit but have a name that nothing could be trusted with. */
export type Listing = { files: ListedFile[]; refused: number }

/** Where files arrive. A folder that does not exist holds none. */
export type FileSource = AsyncDisposable & {
  /** Throws TOO_LARGE for a folder of more than 10,000 entries, and what keeps it from being read. */
  list(pattern: FilePattern): Promise<Listing>
}

/** Entries of a folder that are read. */
export const entriesMax = 10_000

/** More entries than are read: those that are done with have to go. */
export const tooMany = (folder: string): AppError =>
  new AppError('TOO_LARGE', `The folder ${JSON.stringify(folder || '.')} holds more than ${entriesMax} entries.`, {
    hint: 'Move or delete the files that are done, for example by a step file.delete.',
  })

/** Reads `in/orders_*.csv`: `*` stands for any characters of the name, `?` for one. */
export function filePattern(path: string): FilePattern {
  const slash = path.lastIndexOf('/')
  const wanted = Array.from(path.slice(slash + 1))
  return { folder: path.slice(0, Math.max(0, slash)), matches: (name) => fits(wanted, Array.from(name)) }
}

/**
 * True for a name that can be shown, stored, put behind a folder and used where patterns are read: no separator, no wildcard,
 * nothing invisible, 1 to 255 characters. A file called `*` would stand for all its neighbours in the run that it starts.
 */
export const isPlainName = (name: string): boolean =>
  /^[^\p{C}/\\*?]{1,255}$/u.test(name) && name.isWellFormed() && name !== '.' && name !== '..'

// By hand and without going back further than the last star: a pattern of a tenant must not cost more than its length
// times that of the name.
function fits(wanted: readonly string[], name: readonly string[]): boolean {
  let w = 0
  let star = -1
  let from = 0
  for (let n = 0; n < name.length;) {
    if (wanted[w] === '*') {
      star = w++
      from = n
    } else if (w < wanted.length && (wanted[w] === '?' || wanted[w] === name[n])) {
      w++
      n++
    } else if (star >= 0) {
      w = star + 1
      n = ++from
    } else return false
  }
  while (wanted[w] === '*') w++
  return w === wanted.length
}
