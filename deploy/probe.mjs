/**
 * Asks this container's process how it is: `node deploy/probe.mjs /healthz` or `/readyz`. Exits with 0 for 200, and with 1
 * for anything else or no answer in 4 s.
 */
const [, , path = '/healthz'] = process.argv
const port = process.env['HEALTH_PORT'] ?? '8081'
const answer = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(4_000) }).catch(
  () => undefined,
)
process.exitCode = answer?.status === 200 ? 0 : 1
