import { at, isObject, listAt, readObject, textAt } from '../../../shared/read-value.ts'
import { type System, succeeded } from '../../system/system.ts'
import type { ClusterFiles } from '../node/cluster-files.ts'
import { redact } from '../redact.ts'
import { DONE, failedEnding, type Result } from '../result.ts'

const CONFIGURATIONS = '/etc/cni/net.d'
/** Where the plugin host-local keeps which address it gave to which pod. */
const ADDRESSES = '/var/lib/cni/networks'
const MAX_BYTES = 1024 * 1024
const CALL_MS = 20_000
/** Of a plugin that is told none. */
const BRIDGE = 'cni0'

export interface PodNetwork {
  readonly name: string
  readonly bridges: readonly string[]
}

/**
 * Takes away what the network of this machine's pods kept of a cluster: addresses that were given out, and bridges, which have
 * addresses of that cluster and would be refused by the next one. Only when no pod is left. What a DaemonSet laid out stays.
 */
export async function clearPodNetwork(
  system: System,
  files: ClusterFiles,
  signal?: AbortSignal,
): Promise<Result<void>> {
  const network = await readPodNetwork(system, files)
  if (!network) return DONE
  await files.remove(`${ADDRESSES}/${network.name}`)
  for (const bridge of network.bridges) {
    const ports = await system.listDir(`/sys/class/net/${bridge}/brif`)
    // Something that is no pod of ours uses it.
    if (ports.kind !== 'dir' || ports.names.length > 0) continue
    const deleted = await system.run('ip', ['link', 'delete', 'dev', bridge], { deadlineMs: CALL_MS, signal })
    if (!succeeded(deleted.ending))
      return failedEnding(`ip link delete dev ${bridge}`, deleted.ending, redact(deleted.stderr))
  }
  return DONE
}

/** The network that runtimes take: that of the first file by its name. */
async function readPodNetwork(system: System, files: ClusterFiles): Promise<PodNetwork | undefined> {
  const [first] = (await files.list(CONFIGURATIONS)).filter(name => /\.(conf|conflist|json)$/.test(name))
  if (first === undefined) return undefined
  const reading = await system.readFile(`${CONFIGURATIONS}/${first}`, MAX_BYTES)
  return reading.kind === 'file' ? parsePodNetwork(reading.bytes.toString('utf8')) : undefined
}

/** undefined: it is none that a name can be read of. */
export function parsePodNetwork(text: string): PodNetwork | undefined {
  const value = readObject(text)
  const name = value && textAt(value, 'name')
  if (!value || name === undefined || !/^[A-Za-z0-9][\w.-]*$/.test(name)) return undefined
  const plugins = (listAt(value, 'plugins') ?? [value]).filter(isObject)
  const bridges = plugins.flatMap(plugin => {
    const type = textAt(plugin, 'type')
    if (type !== 'bridge' && type !== 'flannel') return []
    const bridge = type === 'bridge' ? at(plugin, 'bridge') : textAt(plugin, 'delegate', 'bridge')
    return bridge === undefined ? [BRIDGE] : typeof bridge === 'string' ? [bridge] : []
  })
  return { name, bridges: bridges.filter(bridge => /^[A-Za-z0-9][\w.-]{0,14}$/.test(bridge)) }
}
