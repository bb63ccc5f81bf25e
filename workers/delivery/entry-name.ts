import { AppError } from '../../shared/errors.ts'

const nameBytesMax = 1024
const partBytesMax = 255

/**
 * The name itself, once it is known to be safe for every archive tool and new to this archive; `taken` remembers it.
 * Nothing is repaired: a name that another tool would read differently is refused with PATH_INVALID, and so are two
 * names that differ only by case or by composed accents, which land on one file on many systems.
 */
export function safeEntryName(name: string, taken: Set<string>): string {
  const fault = nameFault(name)
  if (fault) throw refused(name, fault)
  const folded = name.normalize('NFC').toLowerCase()
  if (taken.has(folded)) throw refused(name, 'another file of this archive has the same name')
  taken.add(folded)
  return name
}

function nameFault(name: string): string | undefined {
  if (name === '' || Buffer.byteLength(name) > nameBytesMax) return 'it must have 1 to 1,024 bytes'
  if (!name.isWellFormed()) return 'it is not valid Unicode'
  if (/[\p{Cc}\p{Bidi_Control}]/u.test(name)) return 'it holds a control character'
  if (/[\\:*?"<>|]/.test(name)) return 'it holds one of \\ : * ? " < > |'
  for (const part of name.split('/')) {
    if (part === '') return 'it is absolute or has an empty part'
    if (part === '.' || part === '..') return 'it has a part "." or ".."'
    if (Buffer.byteLength(part) > partBytesMax) return 'a part is longer than 255 bytes'
    if (/[. ]$/.test(part)) return 'a part ends in a dot or a space'
    if (windowsDevice.test(part)) return 'it is the name of a device on Windows'
  }
  return undefined
}

const windowsDevice = /^(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i

const refused = (name: string, why: string): AppError =>
  new AppError('PATH_INVALID', `${JSON.stringify(name)} cannot stand in an archive: ${why}.`)
