import type { Pipeline } from '../../schema/config/pipeline.ts'
import { findPlaceholders } from './placeholders.ts'
import type { Problem } from './problems.ts'
import type { Reporter } from './read-yaml.ts'

const secretKey =
  /(^|_)(password|passwd|pwd|secret|token|api_?key|access_?key|private_?key|passphrase|connection_?string)$/i
const secretForms = [
  /-----BEGIN [A-Z ]*PRIVATE KEY-----/,
  /\b(AKIA|ASIA)[0-9A-Z]{16}\b/,
  /\b(ghp|gho|ghs|github_pat|glpat|xox[abprs]|sk_live|sk_test|rk_live)[_-][0-9A-Za-z_-]{10,}/,
  /\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}/,
  /\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s/:@]{1,100}:[^\s/@]{1,200}@/,
]

/** A warning for each literal that looks like a secret. The text itself is never repeated. */
export function secretWarnings(pipeline: Pipeline, report: Reporter): Problem[] {
  const problems: Problem[] = []
  const walk = (node: unknown, path: PropertyKey[]): void => {
    if (report.isFull) return
    if (typeof node === 'string') {
      if (looksSecret(node, String(path.findLast((key) => typeof key === 'string') ?? ''))) {
        const hint = 'Store it as a credential of the tenant and name it with credential: <name>.'
        const message = 'this looks like a secret; pipeline files must hold none'
        problems.push(report.at(path, 'SECRET_LITERAL', message, { severity: 'warning', hint }))
      }
    } else if (typeof node === 'object' && node !== null) {
      for (const [key, child] of Object.entries(node)) walk(child, [...path, Array.isArray(node) ? Number(key) : key])
    }
  }
  walk({ variables: pipeline.variables, parameters: pipeline.parameters, steps: pipeline.steps }, [])
  return problems
}

function looksSecret(text: string, key: string): boolean {
  if (secretKey.test(key) && text !== '' && findPlaceholders(text).length === 0) return true
  return secretForms.some((form) => form.test(text)) || (/^[\w+/=-]{32,200}$/.test(text) && isRandom(text))
}

// Random base64 has about 5 bits a character at this length; names of tables and paths stay below 4.
function isRandom(text: string): boolean {
  const counts = new Map<string, number>()
  for (const char of text) counts.set(char, (counts.get(char) ?? 0) + 1)
  const bits = [...counts.values()].reduce(
    (sum, count) => sum - (count / text.length) * Math.log2(count / text.length),
    0,
  )
  return bits > 4.3 && /\d/.test(text) && /[A-Z]/.test(text) && /[a-z]/.test(text)
}
