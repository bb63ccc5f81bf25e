import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { publicFields } from '../../control-plane/auth/public-document.ts'
import { schema } from '../../control-plane/graphql/schema.ts'
import { rootFields } from '../../scripts/roles-page.ts'
import { type ControlPlane, controlPlane } from '../support/control-plane.ts'
import { codesOf, rootDocuments } from '../support/documents.ts'

let plane: ControlPlane
let powerless: string
beforeAll(async () => {
  plane = await controlPlane()
  const a = await plane.tenant()
  powerless = await plane.key(a.id, { scopes: [] })
})
afterAll(() => plane[Symbol.asyncDispose]())

const open = rootFields(schema).filter(({ scopes }) => scopes.length === 0)

describe('a key without scopes is refused by every root field that has one', () => {
  test.each(rootDocuments.filter(({ name }) => !open.some((field) => field.name === name)))(
    '$operation $name',
    async (field) => {
      expect(await codesOf(plane, field, powerless)).toEqual(['FORBIDDEN'])
    },
  )
})

test('what needs no scope is what somebody may know of or do to its own session', () => {
  expect(open.filter(({ isPublic }) => !isPublic).map(({ name }) => name)).toEqual([
    'rateLimit',
    'viewer',
    'changePassword',
    'logout',
  ])
  expect(open.filter(({ isPublic }) => isPublic).map(({ name }) => name)).toEqual(publicFields.toSorted())
})

test('what a payload leads to keeps its own scope', async () => {
  const a = await plane.tenant()
  const token = await plane.key(a.id, { scopes: ['runs:read'] })
  const { errors } = await plane.query('{ viewer { tenant { adminEmail } } }', { token })
  expect(errors[0]?.extensions.code).toBe('FORBIDDEN')
})
