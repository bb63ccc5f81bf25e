import type { Context } from '../context.ts'

/** Loads values by key; all keys asked for in one turn of execution are read together. */
export type BatchLoader<K, V> = (key: K) => Promise<V>

/**
 * The request's loader of that name, made at first use. `read` gets the distinct keys of one turn, at most 1,000 at once,
 * and answers a map; `absent` stands for keys that it does not have.
 */
export function loaderOf<V>(
  context: Context,
  name: string,
  read: (keys: string[]) => Promise<Map<string, V>>,
  absent: () => V,
): BatchLoader<string, V> {
  const known = context.loaders.get(name)
  // A name belongs to one place in the code, which gives it one type.
  if (known) return known as BatchLoader<string, V>
  const made = batched(read, absent)
  context.loaders.set(name, made)
  return made
}

const keysMax = 1000

function batched<V>(read: (keys: string[]) => Promise<Map<string, V>>, absent: () => V): BatchLoader<string, V> {
  let open: { keys: Set<string>; answer: Promise<Map<string, V>> } | undefined
  return async (key) => {
    if (!open || open.keys.size >= keysMax) {
      const keys = new Set<string>()
      const answer = turnEnd().then(() => {
        if (open?.keys === keys) open = undefined
        return read([...keys])
      })
      open = { keys, answer }
    }
    open.keys.add(key)
    return (await open.answer).get(key) ?? absent()
  }
}

// Resolvers of one level run over several microtasks; a macrotask comes after all of them.
const turnEnd = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0))
