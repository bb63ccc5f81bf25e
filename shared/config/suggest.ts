/** The known word nearest to a mistyped one: at most a third of its letters wrong, swapped neighbours counting once. */
export function suggest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined
  let fewest = Math.max(1, Math.floor(word.length / 3)) + 1
  if (word.length > 100) return undefined
  for (const candidate of known) {
    const wrong = distance(word.toLowerCase(), candidate.toLowerCase())
    if (wrong < fewest) [best, fewest] = [candidate, wrong]
  }
  return best
}

// Optimal string alignment: insert, delete, replace, swap neighbours.
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  const at = (i: number, j: number): number => rows[i]?.[j] ?? Infinity
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    rows.push(row)
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : Infinity
      row.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, replaced, swapped))
    }
  }
  return at(a.length, b.length)
}
