const dayMs = 86_400_000
const two = Array.from({ length: 100 }, (_, n) => String(n).padStart(2, '0'))

let lastDay = Number.NaN
let lastText = ''

/** A moment as `toISOString` writes it, in a third of its time: moments of one list are mostly of few days. Throws for none. */
export function momentText(moment: Date): string {
  const at = moment.getTime()
  const day = Math.floor(at / dayMs)
  if (day !== lastDay) {
    lastText = moment.toISOString().replace(/T.*/, 'T')
    lastDay = day
  }
  const ms = at - day * dayMs
  const seconds = Math.floor(ms / 1000)
  const minutes = Math.floor(seconds / 60)
  const clock = `${two[Math.floor(minutes / 60)]}:${two[minutes % 60]}:${two[seconds % 60]}`
  return `${lastText}${clock}.${String(ms % 1000).padStart(3, '0')}Z`
}
