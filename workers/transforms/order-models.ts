import { AppError } from '../../shared/errors.ts'
import type { Seen } from '../lake/statement.ts'

/** A model of a step as far as its order goes: its name, and what its query names. */
type Named = { name: string; seen: Pick<Seen, 'tables' | 'commonTables'> }

/**
 * The models such that each comes after those that its query reads, otherwise in the order they were given. A model may
 * read what it was before. Throws CONFIG_INVALID, with the place, for two of one name and for a circle.
 */
export function orderModels<M extends Named>(models: readonly M[]): M[] {
  const places = new Map<string, number>()
  for (const [index, { name }] of models.entries()) {
    if (places.has(name)) throw faulty(index, 'name', `Two models of this step have the name ${name}.`)
    places.set(name, index)
  }
  const ordered: M[] = []
  const done = new Set<string>()
  const place = (model: M, path: readonly string[]): void => {
    if (done.has(model.name)) return
    if (path.includes(model.name)) {
      const circle = [...path.slice(path.indexOf(model.name)), model.name].join(' → ')
      throw faulty(places.get(model.name) ?? 0, 'query', `These models read each other in a circle: ${circle}.`)
    }
    for (const name of readBy(model)) {
      const index = places.get(name)
      const other = index === undefined ? undefined : models[index]
      if (other && other !== model) place(other, [...path, model.name])
    }
    done.add(model.name)
    ordered.push(model)
  }
  for (const model of models) place(model, [])
  return ordered
}

// The tables under whichever of their names: `t`, `main.t`, `lake.t`, and the versions of `t` in `raw`.
function readBy({ seen }: Named): string[] {
  return seen.tables.flatMap(({ catalog, schema, name }) =>
    catalog === '' && schema === '' && seen.commonTables.has(name) ? [] : [name, name.replace(/_current$/, '')],
  )
}

const faulty = (index: number, field: string, message: string): AppError =>
  new AppError('CONFIG_INVALID', message, { place: { path: `models[${index}].${field}` } })
