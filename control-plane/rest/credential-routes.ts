import { z } from 'zod'
import {
  CreateCredential,
  type CreateCredentialMutation,
  Credentials,
  DeleteCredential,
  UpdateCredential,
} from '../../schema/operations/index.ts'
import { defineRoute, noBody, type Route } from './define.ts'
import { credentialShape, moment, pageOf, pageQuery } from './shapes.ts'

const path = '/tenants/{tenant_id}/credentials'
const ofTenant = z.object({ tenant_id: z.string() })
const ofOne = z.object({ tenant_id: z.string(), name: z.string() })
const secret = z.record(z.string(), z.unknown()).describe('Its fields. They are sealed and never shown again.')
const newCredential = z.strictObject({
  provider: z.string().describe('What it is for, as `gcp`, `postgres` or `sftp`, in any case.'),
  name: z.string().optional().describe('How pipelines name it; default: the provider in lower case.'),
  credentials: secret,
})
const own = { of: ({ parameters }: { parameters: { tenant_id: string } }) => parameters.tenant_id, foreignFor: [] }

const make = (mode: 'DIRECT' | 'QUEUED') => ({
  operation: CreateCredential,
  parameters: ofTenant,
  body: newCredential,
  tenant: own,
  variables: ({ body: { provider, name, credentials } }: { body: z.output<typeof newCredential> }) => ({
    input: {
      provider: provider.toLowerCase(),
      name: name ?? provider.toLowerCase(),
      secret: credentials,
      mode,
    },
  }),
  reply: credentialShape,
})

/** What a tenant's pipelines log in with. */
export const credentialRoutes: readonly Route[] = [
  defineRoute({
    method: 'GET',
    path,
    summary: 'Credentials of the tenant, without their values.',
    operation: Credentials,
    parameters: ofTenant.extend(pageQuery),
    body: noBody,
    tenant: own,
    variables: ({ parameters: { first, after } }) => ({ first, after }),
    reply: pageOf(z.strictObject({ ...credentialShape.shape, provider: z.string(), updated_at: moment })),
    statuses: { 200: 'A page of them.' },
    answer: ({ credentials: { nodes, pageInfo } }) => ({
      status: 200,
      body: {
        items: nodes.map(({ provider, updatedAt, ...row }) => ({ ...bodyOf(row), provider, updated_at: updatedAt })),
        next: pageInfo.hasNextPage ? pageInfo.endCursor : null,
      },
    }),
  }),
  defineRoute({
    ...make('DIRECT'),
    method: 'POST',
    path,
    summary: 'Stores a credential, to be used at once.',
    statuses: { 201: 'It is stored.' },
    answer: ({ createCredential: { credential } }) => ({ status: 201, body: bodyOf(credential) }),
  }),
  defineRoute({
    ...make('QUEUED'),
    method: 'POST',
    path: `${path}/queue`,
    summary: 'Stores a credential, to be used when a worker has logged in with it.',
    statuses: { 202: 'It is stored; while its status is PENDING it waits for its test.' },
    answer: ({ createCredential: { credential } }) => ({ status: 202, body: bodyOf(credential) }),
  }),
  defineRoute({
    method: 'PUT',
    path: `${path}/{name}`,
    summary: 'Gives a credential a new value.',
    operation: UpdateCredential,
    parameters: ofOne,
    body: z.strictObject({
      credentials: secret,
      expected_version: z.int().optional().describe('Refuse with CONFLICT unless this is the current version.'),
    }),
    tenant: own,
    variables: ({ parameters: { name }, body }) => ({
      input: { name, secret: body.credentials, expectedVersion: body.expected_version },
    }),
    reply: credentialShape,
    statuses: { 200: 'It has its new value.' },
    answer: ({ updateCredential: { credential } }) => ({ status: 200, body: bodyOf(credential) }),
  }),
  defineRoute({
    method: 'DELETE',
    path: `${path}/{name}`,
    summary: 'Removes a credential and its history.',
    operation: DeleteCredential,
    parameters: ofOne,
    body: noBody,
    tenant: own,
    variables: ({ parameters: { name } }) => ({ input: { name } }),
    reply: z.strictObject({ credential_id: z.string() }),
    statuses: { 200: 'It is gone.' },
    answer: ({ deleteCredential: { id } }) => ({ status: 200, body: { credential_id: id ?? '' } }),
  }),
]

function bodyOf(row: CreateCredentialMutation['createCredential']['credential']): z.output<typeof credentialShape> {
  if (!row) throw new Error('there is neither a credential nor a refusal')
  return { credential_id: row.id, name: row.name, status: row.status, version: row.version }
}
