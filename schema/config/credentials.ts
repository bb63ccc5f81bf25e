import { z } from 'zod'

/** A credential of provider `postgres`. */
export const postgresShape = z.strictObject({
  host: z.string().min(1).max(255),
  port: z.int().min(1).max(65_535).default(5432),
  database: z.string().min(1).max(255),
  user: z.string().min(1).max(255),
  password: z.string().max(1000),
  ssl: z
    .union([z.boolean(), z.literal('verify')])
    .default(false)
    .describe('true encrypts, verify also checks the certificate against the system authorities.'),
})

const fingerprint = z
  .string()
  .regex(/^SHA256:[A-Za-z0-9+/]{43}=?$/, 'must be SHA256:<base64>, as ssh-keygen -l prints it')

/**
 * A credential of provider `sftp`. The server is pinned by `hostKey`: connecting without one is refused, and by name
 * (HOST_KEY_MISSING), so that the form lets it be absent.
 */
export const sftpShape = z
  .strictObject({
    host: z.string().min(1).max(253),
    port: z.int().min(1).max(65_535).default(22),
    username: z.string().min(1),
    password: z.string().min(1).optional(),
    privateKey: z.string().min(1).optional(),
    passphrase: z.string().optional(),
    hostKey: z.union([fingerprint, z.array(fingerprint).min(1)]).optional(),
  })
  .refine((secret) => secret.password !== undefined || secret.privateKey !== undefined, {
    path: ['password'],
    message: 'a password or a privateKey is needed',
  })

/** A Google service account's key, as its JSON file has it; what else the file holds is not needed. */
export const serviceAccount = z.object({
  client_email: z.string().min(3).max(320),
  private_key: z.string().min(1).max(20_000).describe('PKCS#8 in PEM form.'),
  project_id: z.string().min(1).max(100),
  token_uri: z.url({ protocol: /^https?$/ }).default('https://oauth2.googleapis.com/token'),
})

/** A credential of provider `gcp`: the account's key file as it is, and what more there is to say. */
export const gcpShape = serviceAccount.extend({
  dataset: z
    .string()
    .regex(/^[A-Za-z0-9_]{1,1024}$/)
    .optional()
    .describe('Where tables are that a query names without a dataset.'),
  location: z
    .string()
    .regex(/^[A-Za-z0-9-]{1,50}$/)
    .optional()
    .describe('Where the data are, such as EU; BigQuery finds it out by itself for most queries.'),
  api_url: z
    .url({ protocol: /^https?$/ })
    .default('https://bigquery.googleapis.com')
    .describe('For private endpoints.'),
})

/** The form of a credential, by provider. The edge checks it when one is stored, the worker again when it opens it. */
export const credentialShapes: Readonly<Record<string, z.ZodType>> = {
  gcp: gcpShape,
  postgres: postgresShape,
  sftp: sftpShape,
}
