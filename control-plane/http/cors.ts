/** What pages of these origins may send and see; `origin` in full, as a browser writes it. */
export const corsFor = (origin: string[]) => ({
  origin,
  methods: ['GET', 'POST'],
  allowedHeaders: [
    'content-type',
    'authorization',
    'x-api-key',
    'x-tenant-id',
    'last-event-id',
    'idempotency-key',
    'accept',
  ],
  exposedHeaders: [
    'x-request-id',
    'retry-after',
    ...['limit', 'remaining', 'used', 'reset', 'resource'].map((name) => `x-ratelimit-${name}`),
  ],
  credentials: false,
  maxAge: 86_400,
})
