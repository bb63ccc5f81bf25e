import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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

describe('a key without scopes is refused by every root field', () => {
  test.each(rootDocuments.filter(({ name }) => name !== 'viewer'))('$operation $name', async (field) => {
    expect(await codesOf(plane, field, powerless)).toEqual(['FORBIDDEN'])
  })
})

test('what a payload leads to keeps its own scope', async () => {
  const a = await plane.tenant()
  const token = await plane.key(a.id, { scopes: ['runs:read'] })
  const { errors } = await plane.query('{ viewer { tenant { adminEmail } } }', { token })
  expect(errors[0]?.extensions.code).toBe('FORBIDDEN')
})
