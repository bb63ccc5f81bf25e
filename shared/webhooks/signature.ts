/**
 * Signed messages in the manner of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over `<id>.<timestamp>.<body>`,
 * so that what its libraries sign is what we verify.
 */
export type SignedMessage = { id: string; timestamp: string; body: string; signature: string }

/** Seconds that a message may be older or newer than our clock. */
export const toleranceSeconds = 300

/** A new secret: `whsec_` and 32 random bytes in base64. */
export function makeWebhookSecret(): string {
  return `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(32))))}`
}

/** True for a time stamp in whole seconds that lies within five minutes of `now`. */
export function isTimely(timestamp: string, now: Date): boolean {
  if (!/^\d{1,12}$/.test(timestamp)) return false
  return Math.abs(now.getTime() / 1000 - Number(timestamp)) <= toleranceSeconds
}

/** True when one of the signatures in `v1,<base64> v1,<base64> …` was made with one of the secrets. Compares in constant time. */
export async function isSigned(secrets: readonly string[], message: SignedMessage): Promise<boolean> {
  const text = new TextEncoder().encode(`${message.id}.${message.timestamp}.${message.body}`)
  const given = message.signature
    .split(' ')
    .slice(0, signaturesMax)
    .flatMap((part) => (part.startsWith('v1,') ? (bytesOf(part.slice(3)) ?? []) : []))
  let found = false
  for (const secret of secrets) {
    const key = await keyOf(secret)
    for (const signature of given) found = (await crypto.subtle.verify('HMAC', key, signature, text)) || found
  }
  return found
}

/** The signature of a message, as a sender puts it into its header. */
export async function signMessage(secret: string, message: Omit<SignedMessage, 'signature'>): Promise<string> {
  const text = new TextEncoder().encode(`${message.id}.${message.timestamp}.${message.body}`)
  const signature = new Uint8Array(await crypto.subtle.sign('HMAC', await keyOf(secret), text))
  return `v1,${btoa(String.fromCharCode(...signature))}`
}

// A sender that changes its secret signs with both; more is nobody's need.
const signaturesMax = 5

async function keyOf(secret: string): Promise<CryptoKey> {
  const raw = bytesOf(secret.replace(/^whsec_/, ''))
  if (!raw) throw new Error('a webhook secret is not base64')
  return crypto.subtle.importKey('raw', raw, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign', 'verify'])
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))
  } catch {
    return undefined
  }
}
