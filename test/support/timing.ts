/**
 * Milliseconds that `work` takes, at best of five times, and of fewer once one took less than `enough`: what else a machine
 * has to do makes a time longer and never shorter, so that only a bound on the least of several is one on the work.
 */
export async function leastMs(enough: number, work: () => Promise<unknown> | unknown): Promise<number> {
  let least = Infinity
  for (let time = 0; time < 5 && least >= enough; time++) {
    const begun = performance.now()
    await work()
    least = Math.min(least, performance.now() - begun)
  }
  return least
}
