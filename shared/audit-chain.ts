/** A place in a tenant's audit log: the number of a row and its hash. Whoever keeps one is a witness of all before it. */
export type Link = { seq: number; hash: string }

/** A row of the log as its hash sees it: `at` in UTC to the microsecond, `details` as the database prints them. */
export type ChainRow = {
  seq: number
  id: string
  at: string
  actor: string
  action: string
  target: string
  requestId: string | null
  details: string
  prevHash: string
  hash: string
  /** Whom personal details are about; null without any. */
  subject: string | null
  /** Personal details as they are stored: sealed. */
  personal: string | null
}

/** A row without what is personal in it: the hash of that is enough to verify. */
export type HashedRow = Omit<ChainRow, 'hash' | 'personal'> & { personalHash: string | null }

/** How a log can fail to be what was written, and what that means. */
export const breakReasons = {
  CHANGED: 'The row does not have the content that its hash was made of.',
  UNLINKED: 'The row does not follow from the row before it.',
  MISSING: 'There is no row of this number.',
  REPEATED: 'There are several rows of this number.',
  STRAY: 'The row has a number outside the log.',
  HEAD_MISMATCH: "The tenant's head names another last row.",
  CHECKPOINT_FORGED: 'The log begins at a checkpoint that the platform did not sign.',
  WITNESS_MISMATCH: 'A witness saw another row of this number.',
} as const
/** A reason. */
export type BreakReason = keyof typeof breakReasons

/** The first place at which a log is not what was written. */
export type Break = { seq: number; reason: BreakReason }

/** SHA-256 of each text in UTF-8, as lower-case hex. */
export type Digest = (texts: string[]) => string[] | Promise<string[]>

/** Where every log begins. */
export const origin: Link = { seq: 0, hash: '0'.repeat(64) }

/**
 * Checks that `rows`, in the order of their numbers, go on from `from` without a gap and are what their hashes say.
 * Answers the last good link and the first break. Tells neither a cut tail nor a log that was made anew with all its
 * hashes: for that compare with a witness.
 */
export async function verifyRows(
  tenantId: string,
  rows: readonly ChainRow[],
  from: Link,
  digest: Digest = webDigest,
): Promise<{ last: Link; broken: Break | undefined }> {
  const sealed = await digest(rows.flatMap(({ personal }) => personal ?? []))
  let taken = 0
  const texts = rows.map((row) =>
    rowText(tenantId, { ...row, personalHash: row.personal === null ? null : (sealed[taken++] ?? null) }),
  )
  const hashes = await digest(texts)
  let last = from
  for (const [index, row] of rows.entries()) {
    const reason = breakOf(row, last, hashes[index])
    if (reason) return { last, broken: { seq: reason === 'MISSING' ? last.seq + 1 : row.seq, reason } }
    last = { seq: row.seq, hash: row.hash }
  }
  return { last, broken: undefined }
}

/** What a row's hash is made of; the function `app.audit_hash` of the database says the same. */
export function rowText(tenantId: string, row: HashedRow): string {
  const { seq, id, at, actor, action, target, requestId, details, prevHash, subject, personalHash } = row
  const entry = [tenantId, `${seq}`, id, at, actor, action, target, requestId, details]
  return subject === null && personalHash === null
    ? fieldsText(['tributary.audit.1', ...entry, prevHash])
    : fieldsText(['tributary.audit.2', ...entry, subject, personalHash, prevHash])
}

/** Fields as one text that no other fields give: each with its length in UTF-8 before it, `-` for a missing one. */
export function fieldsText(fields: readonly (string | null)[]): string {
  return fields.map((field) => (field === null ? '-' : `${utf8Bytes(field)}:${field}`)).join(',')
}

function breakOf(row: ChainRow, last: Link, hash: string | undefined): BreakReason | undefined {
  if (row.seq === last.seq) return 'REPEATED'
  if (row.seq !== last.seq + 1) return 'MISSING'
  if (row.hash !== hash) return 'CHANGED'
  return row.prevHash === last.hash ? undefined : 'UNLINKED'
}

function utf8Bytes(text: string): number {
  let bytes = text.length
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    // The two halves of a pair are 4 bytes together, everything else from U+0800 on is 3.
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1
  }
  return bytes
}

async function webDigest(texts: string[]): Promise<string[]> {
  const encoder = new TextEncoder()
  return Promise.all(texts.map(async (text) => hexOf(await crypto.subtle.digest('SHA-256', encoder.encode(text)))))
}

const hexOf = (bytes: ArrayBuffer): string =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('')
