import {
  type GraphQLSchema,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
  isSpecifiedScalarType,
} from 'graphql'
import { schema } from '../control-plane/graphql/schema.ts'

/** Names of the types, fields, arguments and enum values of an API that have no description. */
export function undescribed(api: GraphQLSchema): string[] {
  const bare: string[] = []
  const look = (name: string, of: { description?: string | null | undefined }): void => {
    if (!of.description?.trim()) bare.push(name)
  }
  for (const [name, type] of Object.entries(api.getTypeMap())) {
    if (isIntrospectionType(type) || isSpecifiedScalarType(type)) continue
    look(name, type)
    if (isEnumType(type)) for (const value of type.getValues()) look(`${name}.${value.name}`, value)
    if (!isObjectType(type) && !isInterfaceType(type) && !isInputObjectType(type)) continue
    for (const field of Object.values(type.getFields())) {
      look(`${name}.${field.name}`, field)
      if ('args' in field) for (const arg of field.args) look(`${name}.${field.name}(${arg.name})`, arg)
    }
  }
  return bare
}

if (import.meta.main) {
  const bare = undescribed(schema)
  for (const name of bare) console.error(`${name} has no description`)
  process.exitCode = bare.length === 0 ? 0 : 1
}
