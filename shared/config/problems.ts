/** What can be wrong with a pipeline file. The list is closed. */
export const problemCodes = [
  'YAML_SYNTAX',
  'TOO_LARGE',
  'ALIAS_REFUSED',
  'DUPLICATE_KEY',
  'UNKNOWN_KEY',
  'MISSING_KEY',
  'BAD_VALUE',
  'UNKNOWN_PS_TYPE',
  'DUPLICATE_STEP',
  'UNKNOWN_STEP',
  'STEP_CYCLE',
  'UNKNOWN_PIPELINE',
  'PIPELINE_CYCLE',
  'QUOTE_PLACEHOLDER',
  'UNKNOWN_VARIABLE',
  'SQL_INTERPOLATION',
  'SECRET_LITERAL',
] as const
/** A code of the closed list. */
export type ProblemCode = (typeof problemCodes)[number]

/** One thing wrong, and where. Lines and columns count from 1; a warning does not keep the pipeline from running. */
export type Problem = {
  code: ProblemCode
  severity: 'error' | 'warning'
  message: string
  file: string
  line: number
  column: number
  /** `steps[0].source.query`; empty for the file as a whole. */
  path: string
  hint?: string
}

/** One line for a terminal or a log: `configs/x.yml:11:14 error UNKNOWN_KEY "stpes": did you mean "steps"?` */
export function formatProblem(problem: Problem): string {
  const place = `${problem.file}:${problem.line}:${problem.column}`
  const hint = problem.hint ? ` (${problem.hint})` : ''
  return `${place} ${problem.severity} ${problem.code} ${problem.message}${hint}`
}

/** Problems in the order of the file. */
export function inOrder(problems: readonly Problem[]): Problem[] {
  return problems.toSorted((a, b) => a.line - b.line || a.column - b.column)
}

/** A path as people write it: `['steps', 0, 'source']` is `steps[0].source`. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : `${text}${text && '.'}${String(key)}`),
    '',
  )
}
