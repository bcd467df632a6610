import { isHostName } from '../revision/host-name.ts'
import * as safety from '../revision/safety-text.ts'
import { addressWidth, parseAddress, parseNetwork, unusableAddress } from './address.ts'
import { pattern, text, type ValueType } from './value-type.ts'

/** Why a text cannot name a host, a group, a cluster or a fleet; undefined when it can. */
export function nameProblem(name: string): string | undefined {
  if (isHostName(name)) return name === 'localhost' ? 'localhost means every machine itself' : undefined
  return 'use lower-case letters, digits and dashes, at most 63, a letter or digit at both ends'
}

export const nameText: ValueType<string> = text('name', nameProblem)

export const fleetIdText = pattern(
  'fleet id',
  /^[0-9a-f]{32}$/,
  'it is 32 lower-case hex digits, made once by "muster init"; never change it',
)

export const digestText = pattern(
  'machine id',
  /^[0-9a-f]{64}$/,
  'it is the SHA-256 of the machine\'s key, 64 lower-case hex digits; "muster machines" shows it',
)

function addressProblem(value: string): string | undefined {
  const address = parseAddress(value)
  if (address === undefined) return 'write IPv4 such as 10.0.100.2, or IPv6, without prefix length or zone'
  const unusable = unusableAddress(address)
  return unusable === undefined ? undefined : `it ${unusable}, write one that a machine can have`
}

export const ipText = text('IP address', addressProblem)

export const hostAddressText = text('IP address or "dhcp"', value =>
  value === 'dhcp' ? undefined : addressProblem(value),
)

export const dhcpOnlyText = text('address for many machines', value => {
  if (value === 'dhcp') return undefined
  return 'only "dhcp" can serve several machines; give a fixed address to one host'
})

export const endpointText = text('endpoint', value => {
  const address = parseAddress(value)
  if (address !== undefined) return addressProblem(value)
  const domainName =
    /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/
  if (domainName.test(value) && !/^[0-9.]+$/.test(value)) return undefined
  return 'write an IP address or a lower-case domain name, without scheme or port'
})

export const networkText = text('network', value =>
  parseNetwork(value) === undefined
    ? 'write the first address of a network and its prefix length, such as 10.244.0.0/16'
    : undefined,
)

// The kernel takes at most 15 bytes.
export const interfaceText = pattern(
  'interface name',
  /^[A-Za-z][A-Za-z0-9._-]{0,14}$/,
  'write a name as "ip link" shows it, such as enp0s20f0, at most 15 characters',
)

export const macText = text(
  'MAC address',
  value => {
    if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value)) return 'write six hex pairs such as 52:54:00:12:34:56'
    if (/^(00:){5}00$/.test(value))
      return 'an interface without an address of its own reports it; bind by something else'
    const shared = (Number.parseInt(value.slice(0, 2), 16) & 1) === 1
    return shared ? 'it is a multicast or broadcast address, no interface has it' : undefined
  },
  value => value.toLowerCase(),
)

const sharedUuids = new Set([
  '00000000-0000-0000-0000-000000000000',
  'ffffffff-ffff-ffff-ffff-ffffffffffff',
  '03000200-0400-0500-0006-000700080009',
])

export const uuidText = text(
  'UUID',
  value => {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) {
      return 'write it as dmidecode does: 8-4-4-4-12 hex digits'
    }
    return sharedUuids.has(value.toLowerCase())
      ? 'boards without a UUID of their own report it; bind by something else'
      : undefined
  },
  value => value.toLowerCase(),
)

const emptySerials =
  /^(to be filled by o\.?e\.?m\.?|default string|not specified|not applicable|none|n\/a|unknown|invalid|system serial number|chassis serial number|0+|0?123456789|x+)$/i

/** A serial is data and never part of a path or a command; even so it has no use for quotes, braces or dollar signs. */
export const serialText = text('serial number', value => {
  if (value.trim() === '')
    return 'it is empty, which would bind nothing; write the serial or leave the key out'
  if (!/^[A-Za-z0-9 _./:+#=,()@*&-]{1,128}$/.test(value) || value !== value.trim()) {
    return 'write it as the machine reports it: at most 128 printable ASCII characters, without quotes or blanks at its ends'
  }
  if (emptySerials.test(value))
    return 'vendors write it where there is no serial, many machines have it; bind by something else'
  return undefined
})

export const userNameProblem = (name: string): string | undefined =>
  /^[a-z_][a-z0-9_-]{0,30}$/.test(name) ? undefined : 'a login name has lower-case letters, digits, _ and -'

const keyTypes = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
]

export const sshKeyText = text('SSH public key', value => {
  const cure = 'write one line of a .pub file, such as "ssh-ed25519 AAAA… name"'
  const match = /^(\S+) ([A-Za-z0-9+/]+={0,2})(?: ([ !#%&()*+,./0-9:;<=>?@A-Z[\]^_a-z|~-]{0,200}))?$/.exec(
    value,
  )
  if (match === null) return cure
  const [, type = '', blob = ''] = match
  if (!keyTypes.includes(type)) return `${cure}; options and other key types are not taken`
  // The blob repeats its type behind a four-byte length: a key cut while copying mostly fails here.
  const bytes = Buffer.from(blob, 'base64')
  const length = bytes.length < 4 ? -1 : bytes.readUInt32BE(0)
  const inner = bytes.subarray(4, 4 + Math.max(0, length)).toString('latin1')
  const least = type === 'ssh-ed25519' ? 51 : 40
  return inner === type && bytes.length >= least ? undefined : `the part in the middle is damaged; ${cure}`
})

export const labelKeyProblem = (key: string): string | undefined => {
  const shape = /^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/
  return shape.test(key)
    ? undefined
    : 'a label is named as in Kubernetes: letters, digits, - _ . and at most one prefix/'
}

export const labelText = pattern(
  'label value',
  /^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/,
  'as in Kubernetes it has letters, digits, - _ . inside, at most 63 characters',
)

export const flakeInputText = pattern(
  'flake input',
  /^[A-Za-z_][A-Za-z0-9_-]{0,62}$/,
  'write the name of an input of flake.nix, such as nixpkgs-stable',
)

const configShape = /^nixosConfigurations\.([A-Za-z_][A-Za-z0-9_'-]{0,62})$/

/** The name below nixosConfigurations that a `config` value gives. */
export function flakeAttribute(config: string): string | undefined {
  return configShape.exec(config)?.[1]
}

export const configText = text('flake attribute', value =>
  flakeAttribute(value) === undefined
    ? 'write "nixosConfigurations." and one plain name, such as "nixosConfigurations.nas"'
    : undefined,
)

export const versionText = pattern(
  'version',
  /^\d{1,4}\.\d{1,4}(\.\d{1,4})?([+-][0-9A-Za-z.+-]{1,40})?$/,
  'write it without a leading v, such as 1.34.3 or 1.34.3+k3s1',
)

export const nixVersionText = pattern(
  'version of Nix',
  /^\d{1,4}\.\d{1,4}(\.\d{1,4})?$/,
  'write it such as 2.8 or 2.18.1',
)

export const nixPublicKeyText = pattern(
  'public key of Nix',
  /^[A-Za-z0-9._-]{1,255}:[A-Za-z0-9+/]{43}=$/,
  'write name:base64 as "nix-store --generate-binary-cache-key" writes it into the public file',
)

export const storeUrlText = text('store URL', value => {
  const cure =
    'write a URL of a Nix store, such as https://cache.home, s3://bucket, ssh-ng://host or file:///srv/cache'
  // Commas, blanks and quotes would be read as more than one word by what takes the list later.
  if (!/^[A-Za-z0-9._~:/?#[\]@!&*+;=%-]{1,1024}$/.test(value)) return cure
  if (!/^(https?|s3|ssh|ssh-ng|file):\/\//.test(value)) return cure
  let url: URL
  try {
    url = new URL(value)
  } catch {
    // An unreadable URL is this file's mistake like any other.
    return cure
  }
  const secretUser = url.username !== '' && /^https?:$/.test(url.protocol)
  if (url.password !== '' || secretUser)
    return 'who logs in by a URL shows it to every node; use netrc or a key'
  return url.host === '' && url.protocol !== 'file:' ? cure : undefined
})

export const prefixMost = addressWidth({ family: 6, bits: 0n })

export const unitText = text('unit', safety.unitNameProblem)
export const probeUrlText = text('URL to ask', safety.probeUrlProblem)
export const hostPortText = text('host:port', safety.hostPortProblem)
export const reachHostText = text('address or name', safety.reachHostProblem)
export const diskPathText = text('folder', safety.diskPathProblem)
export const scriptText = text('script', safety.scriptPathProblem)
export const jobText = text('YAML or JSON file', safety.jobPathProblem)
export const argumentText = text('argument', safety.argumentProblem)
export const containsText = text('text to look for', safety.containsProblem)
