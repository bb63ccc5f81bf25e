import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type YAMLMap,
} from 'yaml'
import { pipelineLimits } from '../../schema/config/pipeline.ts'
import { wholePlaceholder } from './placeholders.ts'
import { formatPath, inOrder, type Problem, type ProblemCode } from './problems.ts'

/** Makes problems of one file from offsets or from paths into its value. */
export type Reporter = {
  /** True after 100 problems: nobody reads more, and looking on would let a hostile file cost whole minutes. */
  readonly isFull: boolean
  /** A problem at the value of `path`; at its key with `atKey`; at the nearest thing above when it does not exist. */
  at(path: readonly PropertyKey[], code: ProblemCode, message: string, more?: More): Problem
  /** A problem at the `nth` (from 0) occurrence of `part` in the text at `path`. */
  inText(
    path: readonly PropertyKey[],
    part: string,
    nth: number,
    code: ProblemCode,
    message: string,
    more?: More,
  ): Problem
}
type More = { hint?: string | undefined; severity?: 'error' | 'warning'; atKey?: boolean }

const problemsMax = 100

/**
 * Reads YAML 1.2 (core schema: `yes` is text) as plain JSON data, with places for problems.
 * Refused: more than 256 KiB, 32 levels, anchors, aliases, tags, merge keys, directives, several documents, repeated
 * keys, keys that are no text, keys of JavaScript's own, numbers that lose digits, NUL and broken Unicode.
 */
export function readYaml(text: string, file: string): { value: unknown; report: Reporter } | { problems: Problem[] } {
  const lines = new LineCounter()
  let made = 0
  const problemAt = (
    offset: number,
    code: ProblemCode,
    message: string,
    path: readonly PropertyKey[],
    more: More = {},
  ) => {
    made++
    const { line, col } = lines.linePos(Math.max(0, Math.min(offset, text.length)))
    const hint = more.hint === undefined ? {} : { hint: more.hint }
    const place = { file, line: Math.max(1, line), column: Math.max(1, col), path: formatPath(path) }
    return { code, severity: more.severity ?? 'error', message, ...place, ...hint } satisfies Problem
  }
  if (new TextEncoder().encode(text).length > pipelineLimits.bytesMax)
    return { problems: [problemAt(0, 'TOO_LARGE', 'the file is larger than 256 KiB', [])] }
  const deep = hopelesslyDeep(text)
  if (deep !== undefined)
    return { problems: [problemAt(deep, 'TOO_LARGE', `more than ${pipelineLimits.depthMax} levels deep`, [])] }
  // The library stops at deep nesting by itself (RESOURCE_EXHAUSTION); its check of unique keys compares all with all.
  const document = parseDocument(text, { lineCounter: lines, version: '1.2', uniqueKeys: false, prettyErrors: false })
  const unquoted = unquotedOffset(text, document)
  if (unquoted) {
    const message = `write "${unquoted.text}" with quotes`
    return { problems: [problemAt(unquoted.offset, 'QUOTE_PLACEHOLDER', message, [])] }
  }
  if (document.errors.length > 0) {
    // Nesting that was cut off gives a fault for every open bracket; the first says it all.
    const deep = document.errors.filter((error) => error.code === 'RESOURCE_EXHAUSTION').slice(0, 1)
    return {
      problems: (deep.length > 0 ? deep : document.errors.slice(0, 20)).map((error) => {
        const [code, message] = yamlFault(error.code, error.message)
        return problemAt(error.pos[0], code, message, [])
      }),
    }
  }
  const problems = refusals(document, text).map((fault) =>
    problemAt(fault.offset, fault.code, fault.message, fault.path, { hint: fault.hint }),
  )
  if (problems.length > 0) return { problems: inOrder(problems) }
  const report: Reporter = {
    get isFull() {
      return made >= problemsMax
    },
    at: (path, code, message, more = {}) =>
      problemAt(offsetOf(document, path, more.atKey ?? false), code, message, path, more),
    inText(path, part, nth, code, message, more = {}) {
      const [start, end] = rangeOf(document.getIn(path, true))
      let found = start
      for (let i = 0; i <= nth; i++) {
        const next = text.indexOf(part, i === 0 ? start : found + 1)
        if (next < 0 || next >= end) return problemAt(start, code, message, path, more)
        found = next
      }
      return problemAt(found, code, message, path, more)
    },
  }
  return { value: document.toJS(), report }
}

type Fault = { offset: number; code: ProblemCode; message: string; path: PropertyKey[]; hint: string | undefined }
type Add = (node: unknown, code: ProblemCode, message: string, hint?: string) => void

// The library needs seconds to see that 100,000 levels are too many. A thousand more brackets opened than closed, or two
// hundred dashes in a row, are no pipeline whatever stands in its quotes; what is only a little too deep is found later.
function hopelesslyDeep(text: string): number | undefined {
  const dashes = /(?:[-?][ \t]+){200}/.exec(text)
  if (dashes) return dashes.index
  let open = 0
  for (const bracket of text.matchAll(/[[\]{}]/g)) {
    open += bracket[0] === '[' || bracket[0] === '{' ? 1 : -1
    if (open > 1000) return bracket.index
  }
  return undefined
}

// What YAML allows and this format does not. Runs before `toJS`, so that no alias is ever expanded.
function refusals(document: Document, text: string): Fault[] {
  const faults: Fault[] = []
  let above: readonly unknown[] = []
  const add: Add = (node, code, message, hint) => {
    faults.push({ offset: rangeOf(node)[0], code, message, path: pathOf(above, node), hint })
  }
  if (document.directives?.yaml.explicit) add(undefined, 'YAML_SYNTAX', 'directives are not allowed')
  visit(document, (_key, node, ancestors) => {
    above = ancestors
    if (faults.length >= problemsMax) return visit.BREAK
    if (isCollection(node) && ancestors.filter(isCollection).length >= pipelineLimits.depthMax) {
      add(node, 'TOO_LARGE', `more than ${pipelineLimits.depthMax} levels deep`)
      return visit.BREAK
    }
    if (isAlias(node)) add(node, 'ALIAS_REFUSED', 'aliases are not allowed', 'Write the value out, or use a variable.')
    else if (isNode(node) && 'anchor' in node && node.anchor) add(node, 'ALIAS_REFUSED', 'anchors are not allowed')
    else if (isNode(node) && node.tag) add(node, 'ALIAS_REFUSED', 'tags are not allowed')
    if (isScalar(node)) {
      const fault = scalarFault(node.value, node.source)
      if (fault) add(node, 'BAD_VALUE', fault)
    }
    if (!isMap(node)) return undefined
    const placeholder = unquotedPlaceholder(node, text)
    if (placeholder) add(node, 'QUOTE_PLACEHOLDER', `write "${placeholder}" with quotes`)
    else checkKeys(node, add)
    return placeholder ? visit.SKIP : undefined
  })
  return faults
}

const refusedKeys = new Set(['__proto__', 'constructor', 'prototype'])

function checkKeys(map: YAMLMap, add: Add): void {
  const seen = new Set<string>()
  for (const { key } of map.items) {
    if (seen.size > pipelineLimits.keysMax) return add(map, 'TOO_LARGE', `more than ${pipelineLimits.keysMax} keys`)
    const name = isScalar(key) ? key.value : undefined
    if (typeof name !== 'string' && typeof name !== 'number') add(key, 'BAD_VALUE', 'a key is a text')
    else if (name === '<<') add(key, 'ALIAS_REFUSED', 'merge keys are not allowed', 'Write the keys out.')
    else if (refusedKeys.has(String(name))) add(key, 'BAD_VALUE', `"${name}" cannot be a key`)
    else if (seen.has(String(name))) add(key, 'DUPLICATE_KEY', `"${name}" is here twice`)
    seen.add(String(name))
  }
}

function scalarFault(value: unknown, source: string | undefined): string | undefined {
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) return 'not a number that JSON can hold'
    const isInteger = Number.isInteger(value) && /^[-+]?\d+$/.test(source ?? '')
    return isInteger && !Number.isSafeInteger(value) ? 'the number has too many digits: quote it' : undefined
  }
  if (typeof value !== 'string') return undefined
  return value.includes('\0') || !value.isWellFormed() ? 'NUL and broken Unicode are not allowed' : undefined
}

// `{tenant_id}` without quotes is, to YAML, a map with one key and no value.
function unquotedPlaceholder(map: YAMLMap, text: string): string | undefined {
  const [start, end] = rangeOf(map)
  const source = text.slice(start, end).trim()
  return map.flow && wholePlaceholder(source) ? source : undefined
}

// `{tenant_id}_sales` without quotes is no YAML at all: the error that the library gives stands behind the brace.
function unquotedOffset(text: string, document: Document): { offset: number; text: string } | undefined {
  const at = document.errors[0]?.pos[0]
  if (at === undefined) return undefined
  const start = text.lastIndexOf('\n', at - 1) + 1
  const line = text.slice(start, start + 500)
  const block = /^(\s*(?:-\s+)*(?:[\w.-]+:\s+)?)(\{[a-z_][a-z0-9_.]*[^\n{}]*\}[^\n#]*)/.exec(line)
  const flow = [...line.matchAll(/([:,[]\s+)(\{[a-z_][a-z0-9_.]*[^\n{}]*\}[^\s,\]}]+)/g)]
  for (const found of [...(block ? [block] : []), ...flow]) {
    const offset = start + found.index + (found[1]?.length ?? 0)
    const value = found[2]?.trim() ?? ''
    const isThere = offset <= at && at <= offset + value.length
    if (isThere && wholePlaceholder(value.slice(0, value.indexOf('}') + 1))) return { offset, text: value }
  }
  return undefined
}

function yamlFault(code: string, message: string): [ProblemCode, string] {
  if (code === 'RESOURCE_EXHAUSTION') return ['TOO_LARGE', `more than ${pipelineLimits.depthMax} levels deep`]
  if (code === 'BAD_ALIAS' || code === 'ALIAS_PROPS' || code === 'MULTIPLE_ANCHORS')
    return ['ALIAS_REFUSED', 'aliases are not allowed']
  if (code === 'TAG_RESOLVE_FAILED' || code === 'MULTIPLE_TAGS') return ['ALIAS_REFUSED', 'tags are not allowed']
  if (code === 'MULTIPLE_DOCS') return ['YAML_SYNTAX', 'one file holds one pipeline: a second document begins here']
  return ['YAML_SYNTAX', message]
}

function pathOf(ancestors: readonly unknown[], node: unknown): PropertyKey[] {
  return ancestors.flatMap((above, index): PropertyKey[] => {
    if (isPair(above)) return isScalar(above.key) ? [String(above.key.value)] : []
    return isSeq(above) ? [above.items.indexOf(ancestors[index + 1] ?? node)] : []
  })
}

function offsetOf(document: Document, path: readonly PropertyKey[], atKey: boolean): number {
  for (let length = path.length; length >= 0; length--) {
    const above = document.getIn(path.slice(0, length - 1), true)
    const last = path[length - 1]
    const pair = isMap(above) ? above.items.find((item) => isScalar(item.key) && item.key.value === last) : undefined
    if (pair && (atKey || !isScalar(pair.value))) return rangeOf(pair.key)[0]
    const node = document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return node.range[0]
  }
  return 0
}

function rangeOf(node: unknown): [number, number] {
  return isNode(node) && node.range ? [node.range[0], node.range[1]] : [0, Number.MAX_SAFE_INTEGER]
}
