/** What a part of the proof found: how much held, and in words what did not. */
export type Tally = {
  passed: number
  failures: string[]
  /** Counts a case; a failure is told as `what` with its `detail`, which is only made then. */
  check(ok: boolean, what: string, detail?: () => string): void
}

/** A count that starts at nothing. */
export function tally(): Tally {
  const failures: string[] = []
  return {
    passed: 0,
    failures,
    check(ok, what, detail) {
      if (ok) this.passed++
      else failures.push(detail ? `${what}: ${detail().slice(0, 600)}` : what)
    },
  }
}
