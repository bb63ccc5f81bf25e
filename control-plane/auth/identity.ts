import { systemClock } from '../../shared/clock.ts'
import { type Passwords, passwords } from './password.ts'
import { type ProviderKeys, providerKeys } from '../identity-providers/provider-keys.ts'

/** What signing in works with. */
export type Identity = {
  passwords: Passwords
  providerKeys: ProviderKeys
  /** The page of the deployment that takes a one-time link, which follows it after `#`; without one mail holds the code. */
  accountUrl: string | undefined
  /** Whether providers may be on this machine and without TLS: development and tests. */
  allowsLocalProviders: boolean
}

/** What a deployment may say about signing in. */
export type IdentityOptions = Partial<Omit<Identity, 'providerKeys'>>

/** Puts up signing in. Its only memory is a bounded one: the keys of providers. */
export function identityFor(options: IdentityOptions = {}): Identity {
  const allowsLocalProviders = options.allowsLocalProviders ?? false
  return {
    passwords: options.passwords ?? passwords(systemClock),
    providerKeys: providerKeys(allowsLocalProviders),
    accountUrl: options.accountUrl,
    allowsLocalProviders,
  }
}
