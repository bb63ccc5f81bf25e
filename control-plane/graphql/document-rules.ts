import { type DocumentNode, NoSchemaIntrospectionCustomRule, validate } from 'graphql'
import type { Plugin } from 'graphql-yoga'
import type { Context } from '../context.ts'
import { faultOfSize, limits } from './limits.ts'

// Each fault may come with suggestions, whose search costs more than all else in a wrong document.
const faultsMax = 5
// Larger documents are rare and not worth their place.
const keptCharsMax = 8_192
const keptMax = 256

/**
 * What a document must hold to before it runs, cheapest first: tokens while it is parsed, the limits before the rules of
 * the language, whose own cost is then bounded. Without a caller the schema is told in development only.
 */
export const documentRules = (development: boolean): Plugin<Context, Context> => ({
  onParse({ setParseFn, parseFn }) {
    setParseFn((source, options) => {
      const document = parseFn(source, { ...options, maxTokens: limits.tokens })
      const fault = faultOfSize(document)
      if (fault) throw fault
      return document
    })
  },
  onValidate({ context, addValidationRule, setValidationFn }) {
    if (!development && context.auth === undefined) addValidationRule(NoSchemaIntrospectionCustomRule)
    setValidationFn((schema, document, rules) => validate(schema, document, rules, { maxErrors: faultsMax }))
  },
})

/** Parsed documents of this process, those used least recently forgotten first; ones that were refused are not kept. */
export function documentCache(): { documentCache: Cache<DocumentNode>; errorCache: Cache<unknown> } {
  const kept = new Map<string, DocumentNode>()
  return {
    documentCache: {
      get(text) {
        const document = kept.get(text)
        if (!document) return undefined
        kept.delete(text)
        kept.set(text, document)
        return document
      },
      set(text, document) {
        if (text.length > keptCharsMax) return
        kept.set(text, document)
        if (kept.size <= keptMax) return
        const [oldest] = kept.keys()
        if (oldest !== undefined) kept.delete(oldest)
      },
    },
    errorCache: { get: () => undefined, set: () => undefined },
  }
}

type Cache<T> = { get(text: string): T | undefined; set(text: string, value: T): void }
