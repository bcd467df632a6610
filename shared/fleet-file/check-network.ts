import {
  type Address,
  addressKey,
  addressWidth,
  isLinkLocal,
  isNetworkEdge,
  parseAddress,
  sameNetwork,
} from './address.ts'
import { hostLayers, isOwn, type Layers, pick } from './layers.ts'
import { quote, type Report } from './problem.ts'
import type { HostTable, Sections } from './read-sections.ts'
import type { Placed } from './value-type.ts'

/** Checks that fixed addresses are unique and complete, and that gateways can be reached from them. */
export function checkNetwork(sections: Sections, report: Report): void {
  const owners = new Map<string, HostTable>()
  for (const host of sections.hosts.values()) {
    const layers = hostLayers(sections, host)
    const placed = pick(layers, 'address').found
    const address = placed === undefined ? undefined : parseAddress(placed.value)
    if (placed === undefined || address === undefined) {
      if (!host.table.broken.has('address')) checkUnused(layers, report)
      continue
    }
    const other = owners.get(addressKey(address))
    if (other !== undefined) {
      const where = `host ${quote(other.name)} in line ${other.table.values.address?.at.line ?? other.nameAt.line}`
      report(placed.at, placed.path, `${placed.value} is the address of ${where} too; give each host its own`)
    }
    owners.set(addressKey(address), other ?? host)
    checkNetworkOf(layers, placed, address, report)
    checkInterface(host, layers, placed, report)
  }
}

/** A configuration made from this file must know which interface gets the address. */
function checkInterface(host: HostTable, layers: Layers, placed: Placed<string>, report: Report): void {
  const told = pick(layers, 'interface')
  const elsewhere = pick(layers, 'config').found ?? pick(layers, 'os').found ?? host.table.values.mac
  if (told.found !== undefined || !told.certain || elsewhere !== undefined) return
  const cure = 'write interface, or bind the host by mac, or configure the network in its Nix modules'
  report(
    placed.at,
    placed.path,
    `the address is fixed, but nothing says for which interface; ${cure}`,
    'warning',
  )
}

/** With DHCP these say nothing; written into the very host, that is hardly meant. */
function checkUnused(layers: Layers, report: Report): void {
  for (const name of ['prefix-length', 'gateway'] as const) {
    const { found } = pick(layers, name)
    if (found !== undefined && isOwn(layers, found) && layers[0]?.path[0] === 'hosts') {
      report(
        found.at,
        found.path,
        'has no effect with DHCP; write a fixed address beside it, or remove it',
        'warning',
      )
    }
  }
}

function checkNetworkOf(layers: Layers, placed: Placed<string>, address: Address, report: Report): void {
  const prefix = pick(layers, 'prefix-length')
  if (!prefix.certain) return
  const length = prefix.found?.value
  if (prefix.found === undefined || length === undefined) {
    report(
      placed.at,
      placed.path,
      'a fixed address needs its network: write prefix-length = 24 here or in [defaults]',
    )
    return
  }
  const prefixAt = isOwn(layers, prefix.found) ? prefix.found : placed
  if (length > addressWidth(address)) {
    report(
      prefixAt.at,
      prefixAt.path,
      `prefix-length ${length} is too long for ${placed.value}: at most ${addressWidth(address)}`,
    )
    return
  }
  if (isNetworkEdge(address, length)) {
    const text = `${placed.value} is the first or last address of its network (prefix-length ${length}), which no machine may have`
    report(placed.at, placed.path, `${text}; choose one between`)
  }
  checkGateway(layers, placed, address, length, report)
}

function checkGateway(
  layers: Layers,
  placed: Placed<string>,
  address: Address,
  length: number,
  report: Report,
): void {
  const { found } = pick(layers, 'gateway')
  const gateway = found === undefined ? undefined : parseAddress(found.value)
  if (found === undefined || gateway === undefined) return
  const own = isOwn(layers, found)
  const at = own ? found : placed
  const named = own ? found.value : `${found.value} (line ${found.at.line})`
  if (addressKey(gateway) === addressKey(address)) {
    report(at.at, at.path, `the gateway ${named} is the host's own address`, 'warning')
  } else if (!sameNetwork(gateway, address, length) && !isLinkLocal(gateway)) {
    const cure = 'write a gateway, address or prefix-length that fit together'
    report(
      at.at,
      at.path,
      `the gateway ${named} is outside the network of ${placed.value}/${length}; ${cure}`,
    )
  }
}
