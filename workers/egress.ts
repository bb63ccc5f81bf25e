import { lookup } from 'node:dns/promises'
import { BlockList, type IPVersion } from 'node:net'
import { AppError } from '../shared/errors.ts'
import { orAborted, throwIfAborted } from './aborted.ts'

/** Where to connect: the name is resolved once, and the connection goes to this address and no other. */
export type Target = { address: string; family: 4 | 6 }

const resolveTimeoutMs = 10_000

/**
 * Resolves a host once and gives the address to connect to, IPv4 before IPv6. Connecting by name afterwards would ask
 * DNS again, which may by then answer with an inner address: connect to `address`, and use the name for TLS only.
 * Addresses that are not on the public internet are passed over unless `allowPrivate`; metadata services, link-local,
 * multicast and broadcast addresses always are. Redirects need a call of their own.
 * Throws EGRESS_DENIED when no address is left, CONNECTION_FAILED when the name does not resolve within 10 s, and the
 * signal's error when it aborts.
 */
export async function resolveTarget(to: {
  host: string
  port: number
  allowPrivate: boolean
  signal: AbortSignal
}): Promise<Target> {
  throwIfAborted(to.signal)
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(unresolved(to.host, 'timed out')), resolveTimeoutMs)
  try {
    const found = await orAborted(addressesOf(to.host), AbortSignal.any([to.signal, late.signal]))
    const open = found.find((target) => isAllowed(target, to.allowPrivate))
    if (open) return open
  } finally {
    clearTimeout(timer)
  }
  // The address stays out of the message: it would tell a tenant what inner names resolve to.
  throw new AppError('EGRESS_DENIED', `Connections to ${to.host}:${to.port} are not allowed.`)
}

/** True when a connection may go to this address. */
export function isAllowed(target: Target, allowPrivate: boolean): boolean {
  const address = target.address.replace(/%.*$/, '')
  const family: IPVersion = target.family === 6 ? 'ipv6' : 'ipv4'
  if (neverReached.check(address, family)) return false
  if (allowPrivate) return true
  if (family === 'ipv6' && !globalUnicast.check(address, family)) return false
  return !notPublic.check(address, family)
}

async function addressesOf(host: string): Promise<Target[]> {
  try {
    const found = await lookup(host, { all: true, order: 'ipv4first' })
    return found.map(({ address, family }) => ({ address, family: family === 6 ? 6 : 4 }))
  } catch (cause) {
    throw unresolved(host, cause)
  }
}

const unresolved = (host: string, cause: unknown): AppError =>
  new AppError('CONNECTION_FAILED', `The name ${JSON.stringify(host)} does not resolve.`, { cause })

// Link-local holds the clouds' metadata services; the single addresses are those that live elsewhere (Azure, Alibaba,
// Oracle, AWS and Google over IPv6). BlockList judges an IPv4-mapped IPv6 address by the IPv4 rules as well.
const neverReached = list([
  '169.254.0.0/16',
  '168.63.129.16/32',
  '100.100.100.200/32',
  '192.0.0.192/32',
  '224.0.0.0/4',
  '255.255.255.255/32',
  'fd00:ec2::254/128',
  'fd20:ce::254/128',
  'fe80::/10',
  'ff00::/8',
  '64:ff9b::a9fe:0/112',
  '2002:a9fe::/32',
])

// Everything outside is loopback, private, mapped (::ffff:0:0/96), translated (64:ff9b::/96) or unassigned. A rule for
// the mapped range itself would match every IPv4 address in BlockList (Node 24), hence the list of what is allowed.
const globalUnicast = list(['2000::/3'])

// The special-purpose registries of IANA, without what is reachable from everywhere.
const notPublic = list([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '240.0.0.0/4',
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  '3fff::/20',
])

function list(ranges: readonly string[]): BlockList {
  const blocks = new BlockList()
  for (const range of ranges) {
    const [net = '', bits] = range.split('/')
    blocks.addSubnet(net, Number(bits), net.includes(':') ? 'ipv6' : 'ipv4')
  }
  return blocks
}
