import { type ErrorCode, errorCodes } from '../shared/errors.ts'

/** docs/errors.md: every code of the closed list, with its HTTP status, whether trying again can help, and what to do. */
export function errorsPage(codes: typeof errorCodes = errorCodes): string {
  // The keys of the list are its codes.
  const names = (Object.keys(codes) as ErrorCode[]).toSorted()
  return [
    '# Errors',
    '',
    'Every code that the API, a run or a message of the product can have. Generated from the one list in [shared/errors.ts](../shared/errors.ts) by `npm run generate`; there are no others, and none changes its meaning.',
    '',
    '- What a caller can act on comes in `errors` of a payload, with `code`, `message` and `hint`; everything else in `errors` of the answer, with `extensions.code`, and below `/api` as `application/problem+json`. The `hint` of an answer may say more than the one here.',
    '- Retry *later*: the same request may succeed by itself, as a step does that has tries left. *never*: something has to be changed first. An answer that says otherwise knows better.',
    '- The status is that of paths below `/api` and of requests that reach no operation; GraphQL answers carry errors with 200.',
    '- `INTERNAL` tells nothing but its request id, under which the log of the deployment has the rest.',
    '',
    '| code | HTTP | retry | what to do |',
    '|---|---|---|---|',
    ...names.map((name) => {
      const { status, retry, hint } = codes[name]
      return `| \`${name}\` | ${status} | ${retry} | ${hint.replaceAll('|', String.raw`\|`)} |`
    }),
    '',
  ].join('\n')
}
