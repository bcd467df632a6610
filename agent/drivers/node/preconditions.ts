import { isObject, listAt, textAt } from '../../../shared/read-value.ts'
import type { System } from '../../system/system.ts'
import { succeeded } from '../../system/system.ts'

/** Something that must be so before Kubernetes can run here, and is not. */
export interface Shortfall {
  readonly what:
    | 'user'
    | 'module'
    | 'cgroup'
    | 'port'
    | 'host-name'
    | 'machine-id'
    | 'address'
    | 'clock'
    | 'program'
    | 'datastore'
    | 'data'
  /** Names the thing and the cure, in one sentence. */
  readonly reason: string
}

export interface Needs {
  readonly users: readonly string[]
  /** Programs without which nothing starts, as they were found missing. */
  readonly programs: readonly string[]
  readonly tcpPorts: readonly number[]
  /** Pods run here, so kernel modules and control groups are needed. */
  readonly workloads: boolean
  readonly nodeName: string
  /** undefined: it was to be found out and was not. */
  readonly address: string | undefined
  /** Addresses of the cluster's other servers: none of them may be this machine's. */
  readonly otherAddresses: readonly string[]
}

const CALL_MS = 10_000
const MAX_BYTES = 4 * 1024 * 1024

async function readText(system: Pick<System, 'readFile'>, path: string): Promise<string | undefined> {
  const reading = await system.readFile(path, MAX_BYTES)
  return reading.kind === 'file' && !reading.truncated ? reading.bytes.toString('utf8') : undefined
}

/** Looks at the machine; whatever cannot be looked at counts as missing and says so. */
export async function checkMachine(system: System, needs: Needs): Promise<readonly Shortfall[]> {
  const read = async (path: string) => await readText(system, path)
  const exists = async (path: string) => (await system.exists(path)).kind === 'present'
  const found: Shortfall[] = []
  const miss = (what: Shortfall['what'], reason: string | undefined) => {
    if (reason !== undefined) found.push({ what, reason })
  }
  const passwd = needs.users.length === 0 ? '' : await read('/etc/passwd')
  for (const user of missingUsers(passwd, needs.users)) {
    miss('user', `no user ${user}: its module makes it when the host's configuration is applied`)
  }
  for (const program of needs.programs) {
    miss('program', `no program ${program} in the folders of the configuration: install it there`)
  }
  const open = [await read('/proc/net/tcp'), await read('/proc/net/tcp6')]
  const listening = open.every(text => text === undefined)
    ? undefined
    : new Set(open.flatMap(text => (text === undefined ? [] : [...listeningPorts(text)])))
  if (!listening && needs.tcpPorts.length > 0)
    miss('port', '/proc/net/tcp cannot be read: nobody knows which ports are taken')
  for (const port of needs.tcpPorts) {
    if (listening?.has(port)) miss('port', `port ${port} is taken: stop what listens there`)
  }
  if (needs.workloads) {
    if (!/\toverlay$/m.test((await read('/proc/filesystems')) ?? '')) {
      miss('module', 'no file system overlay: load the kernel module overlay')
    }
    if (
      !(await exists('/proc/sys/net/bridge/bridge-nf-call-iptables')) &&
      !(await exists('/sys/module/br_netfilter'))
    ) {
      miss('module', 'no module br_netfilter: load it, or services do not reach pods of their own node')
    }
    miss('cgroup', whyNoCgroups(await read('/sys/fs/cgroup/cgroup.controllers'), await read('/proc/cgroups')))
  }
  miss('host-name', whyBadHostName(needs.nodeName, (await read('/proc/sys/kernel/hostname'))?.trim()))
  miss('machine-id', whyBadMachineId(await read('/etc/machine-id')))
  const addresses = await system.run('ip', ['-j', 'address', 'show'], { deadlineMs: CALL_MS })
  const own = succeeded(addresses.ending) ? ownAddresses(addresses.stdout) : undefined
  miss('address', whyBadAddress(needs.address, needs.otherAddresses, own))
  const clock = await system.run('timedatectl', ['show', '--property=NTP,NTPSynchronized'], {
    deadlineMs: CALL_MS,
  })
  miss('clock', whyBadClock(succeeded(clock.ending) ? clock.stdout : undefined))
  return found
}

export function missingUsers(passwd: string | undefined, users: readonly string[]): readonly string[] {
  const known = new Set((passwd ?? '').split('\n').map(line => line.split(':', 1)[0]))
  return users.filter(user => !known.has(user))
}

/** Ports in state LISTEN in /proc/net/tcp or tcp6. */
export function listeningPorts(text: string): ReadonlySet<number> {
  const ports = new Set<number>()
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', , state] = line.trim().split(/\s+/)
    const port = Number.parseInt(local.slice(local.lastIndexOf(':') + 1), 16)
    if (state === '0A' && Number.isInteger(port)) ports.add(port)
  }
  return ports
}

const CONTROLLERS = ['cpu', 'cpuset', 'memory', 'pids'] as const

/** `unified`: the controllers of the second version; `legacy`: /proc/cgroups. */
export function whyNoCgroups(unified: string | undefined, legacy: string | undefined): string | undefined {
  if (unified !== undefined) {
    const there = new Set(unified.trim().split(/\s+/))
    const missing = CONTROLLERS.filter(name => !there.has(name))
    return missing.length === 0
      ? undefined
      : `no control group controller ${missing.join(', ')}: enable it in the kernel`
  }
  const enabled = new Set(
    (legacy ?? '').split('\n').flatMap(line => (/\t1$/.test(line) ? [line.split('\t', 1)[0] ?? ''] : [])),
  )
  const missing = CONTROLLERS.filter(name => !enabled.has(name))
  return missing.length === 0
    ? undefined
    : `no control group controller ${missing.join(', ')}: enable it in the kernel`
}

export function whyBadHostName(wanted: string, actual: string | undefined): string | undefined {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/.test(wanted)) {
    return `${wanted}: is no name for a node; wanted lower-case letters, digits and hyphens`
  }
  if (actual === undefined || actual === '') return 'the machine has no host name that can be read'
  if (actual === wanted || actual.split('.', 1)[0] === wanted) return undefined
  return `the machine is named ${actual}, its node is to be ${wanted}: apply the host's configuration first`
}

/** Of /etc/machine-id as it is now; undefined: there is none that is one. */
export async function readMachineId(system: Pick<System, 'readFile'>): Promise<string | undefined> {
  const text = await readText(system, '/etc/machine-id')
  return whyBadMachineId(text) === undefined ? text?.trim() : undefined
}

export function whyBadMachineId(text: string | undefined): string | undefined {
  const id = text?.trim()
  if (id !== undefined && /^[0-9a-f]{32}$/.test(id) && !/^0+$/.test(id)) return undefined
  return '/etc/machine-id holds no machine id: remove it and run systemd-machine-id-setup'
}

export function whyBadAddress(
  address: string | undefined,
  others: readonly string[],
  own: readonly string[] | undefined,
): string | undefined {
  if (address === undefined || address === '')
    return 'the node has no address yet: muster-node-address.service finds it out'
  if (!own) return 'the addresses of this machine cannot be read (ip -j address show)'
  if (!own.includes(address))
    return `${address} is no address of this machine: it has ${own.join(', ') || 'none'}`
  const taken = others.find(other => own.includes(other))
  return taken === undefined
    ? undefined
    : `${taken} is another server's address by the configuration, and this machine has it`
}

/** Addresses that `ip -j address show` lists, without those of the loopback device. */
export function ownAddresses(text: string): readonly string[] | undefined {
  try {
    const links: unknown = JSON.parse(text)
    if (!Array.isArray(links)) return undefined
    return links
      .filter(isObject)
      .flatMap(link =>
        textAt(link, 'ifname') === 'lo'
          ? []
          : (listAt(link, 'addr_info') ?? []).flatMap(info => textAt(info, 'local') ?? []),
      )
  } catch {
    return undefined
  }
}

/** Only a clock that is kept in step and is not there yet is named: a machine may be kept in step by other means. */
export function whyBadClock(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const values = new Set(text.trim().split('\n'))
  if (values.has('NTP=yes') && values.has('NTPSynchronized=no')) {
    return 'the clock is not synchronised yet: certificates made now may be of another time; wait for it'
  }
  return undefined
}
