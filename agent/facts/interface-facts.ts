import { isIP } from 'node:net'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { InterfaceFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { cleanCount, cleanMac } from './clean-values.ts'
import { compare } from './memory-facts.ts'
import { type JsonObject, objectsIn, parseJson, stringAt } from './parse-json.ts'
import type { Source } from './source.ts'

type Interface = MessageInitShape<typeof InterfaceFactsSchema> & { name: string }

const MAX_INTERFACES = 256
const MAX_ADDRESSES = 32
const NET = '/sys/class/net'

/**
 * Interfaces that containers, pods and virtual machines bring and take away, that tunnels' modules always make, and
 * `lo`. They are left out, so that the digest of the facts changes with the machine and not with what runs on it. An
 * interface backed by hardware is always told; so are bonds, bridges, VLANs, WireGuard and the like.
 */
const COMES_AND_GOES =
  /^(lo$|veth|cali|cilium|lxc|docker|podman|br-[0-9a-f]{12}$|cni|flannel|kube-|nodelocaldns|tunl\d|ip6tnl\d|sit\d|gre\d|gretap\d|erspan\d|ip_vti\d|ip6_vti\d|ip6gre\d|vxlan|geneve|genev_|weave|datapath|ovs-|ovn-|antrea-|virbr|vnet|fwbr\d|fwpr\d|fwln\d|tap|azv|eni[0-9a-f]{11}$|gke[0-9a-f]{11}$|ifb\d|dummy\d|nerdctl|bonding_masters$)/

/** What an interface has, as `ip -j addr` and /sys tell it. */
export async function collectInterfaces(source: Source): Promise<Interface[]> {
  const listed = await listWithIp(source)
  const rows = new Map((listed ?? []).map(row => [stringAt(row, 'ifname') ?? '', row] as const))
  // A folder without `ip` (or with an older one) still has the kernel's own list.
  for (const name of await source.names(NET)) if (!rows.has(name)) rows.set(name, {})
  const interfaces: Interface[] = []
  for (const [name, row] of rows) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the kernel allows all but these in a name
    if (!/^[^\s/:\u0000-\u001f\u007f-\uffff]{1,15}$/.test(name) || name === '.' || name === '..') continue
    const physical = (await source.has(`${NET}/${name}/device`)) ?? false
    if (!physical && COMES_AND_GOES.test(name)) continue
    interfaces.push(await describeInterface(source, name, physical, row))
  }
  if (interfaces.length > MAX_INTERFACES) {
    source.warn(`ip: only ${MAX_INTERFACES} of ${interfaces.length} interfaces are told`)
  }
  // Hardware first, so that the bound never drops it.
  interfaces.sort((a, b) => Number(b.physical) - Number(a.physical) || compare(a.name, b.name))
  return interfaces.slice(0, MAX_INTERFACES)
}

async function listWithIp(source: Source): Promise<readonly JsonObject[] | undefined> {
  const printed = await source.output('ip', ['-j', 'addr'], { maxBytes: 4 * 1024 * 1024 })
  if (printed === undefined) return undefined
  const json = parseJson(source, 'ip', printed.trim() === '' ? '[]' : printed)
  if (json !== undefined && !Array.isArray(json)) source.warn('ip: lists no interfaces')
  return json === undefined ? undefined : objectsIn(json).filter(row => stringAt(row, 'ifname') !== undefined)
}

async function describeInterface(
  source: Source,
  name: string,
  physical: boolean,
  row: JsonObject,
): Promise<Interface> {
  const sys = `${NET}/${name}`
  // The kernel answers EINVAL to both questions while the interface is down.
  const carrier = (await source.text(`${sys}/carrier`, { expected: ['EINVAL'] }))?.trim()
  const speed = (await source.text(`${sys}/speed`, { expected: ['EINVAL', 'EOPNOTSUPP'] }))?.trim()
  return {
    name,
    mac:
      cleanMac(stringAt(row, 'permaddr') ?? '') ??
      cleanMac((await source.text(`${sys}/bonding_slave/perm_hwaddr`)) ?? '') ??
      cleanMac(stringAt(row, 'address') ?? '') ??
      cleanMac((await source.text(`${sys}/address`)) ?? ''),
    speed: carrier === '1' && speed !== undefined ? knownSpeed(speed) : undefined,
    carrier: carrier === '1' ? true : carrier === '0' ? false : undefined,
    mtu: cleanCount(row.mtu) ?? cleanCount((await source.text(`${sys}/mtu`)) ?? ''),
    driver: physical ? await source.linkName(`${sys}/device/driver`) : undefined,
    addresses: lastingAddresses(row.addr_info),
    physical,
  }
}

/** Drivers that do not know say -1, older ones the same as an unsigned number; 0 is no speed either. */
function knownSpeed(text: string): bigint | undefined {
  const speed = cleanCount(text)
  return speed === undefined || speed === 0n || speed >= 0xffffffffn ? undefined : speed
}

/** Global addresses with their prefix; temporary ones (privacy extensions) change by design and are left out. */
function lastingAddresses(value: unknown): string[] {
  const addresses = objectsIn(value).flatMap(address => {
    const local = stringAt(address, 'local')
    const prefix = cleanCount(address.prefixlen)
    const wanted = stringAt(address, 'scope') === 'global' && address.temporary !== true
    const usable = address.tentative !== true && address.dadfailed !== true
    if (!wanted || !usable || local === undefined || isIP(local) === 0 || local.includes('%')) return []
    return prefix === undefined || prefix > 128n ? [] : [`${local}/${prefix}`]
  })
  return [...new Set(addresses)].sort(compare).slice(0, MAX_ADDRESSES)
}
