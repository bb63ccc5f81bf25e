import { AppError } from '../../shared/errors.ts'

/**
 * A URL of an identity provider. The edge cannot ask where a name leads, hence: https, a public name and no address.
 * With `allowsLocal` also http to this machine. Throws BAD_INPUT, at the given field, for anything else.
 */
export function providerUrl(text: string, allowsLocal: boolean, field: string): URL {
  const url = URL.canParse(text) && text.length <= 500 ? new URL(text) : undefined
  const isUsable =
    url !== undefined &&
    url.username === '' &&
    url.password === '' &&
    url.hash === '' &&
    ((url.protocol === 'https:' && isPublicName(url.hostname)) || (allowsLocal && isLocal(url)))
  if (isUsable) return url
  throw new AppError('BAD_INPUT', `${field} must be an https URL of a public name.`, { place: { path: field } })
}

const privateEndings =
  /\.(localhost|local|localdomain|internal|intranet|lan|home|corp|private|home\.arpa|onion|test|invalid)$/

// The URL parser has turned every spelling of an IPv4 address into digits and dots.
function isPublicName(host: string): boolean {
  const name = host.replace(/\.$/, '').toLowerCase()
  return name.includes('.') && !name.includes(':') && !/^[\d.]+$/.test(name) && !privateEndings.test(name)
}

const isLocal = ({ protocol, hostname }: URL): boolean =>
  (protocol === 'http:' || protocol === 'https:') && ['localhost', '127.0.0.1', '[::1]'].includes(hostname)
