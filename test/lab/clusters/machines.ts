import { join } from 'node:path'
import type { Lab } from '../lab.ts'
import type { MachineOptions } from '../machine.ts'
import { machineAddress } from '../network.ts'
import { must } from '../run.ts'
import { ensureContainerLayer } from './layer.ts'
import { writePackages } from './packages.ts'
import { ensurePrograms, packagedPrograms } from './programs.ts'

/** Folders whose content brings an overlay of its own, or that must not share their disk's with others. */
const DATA = ['etcd', 'containerd', 'kubelet', 'k0s', 'rancher'].map(name => `/var/lib/${name}`)

/** Subnet of the pods of the `index`th machine, for a network provider that is ours: a bridge on each machine. */
export const podSubnet = (index: number): string => `10.244.${10 + index}.0/24`

/** What a lab's machines need to run Kubernetes, apart from which of them is which. */
export interface ClusterLab {
  /** What lies over the lab's root in each of them. */
  readonly layers: readonly string[]
  /** The options of the machine that is made as the `index`th of these, in this order. */
  readonly machine: (index: number, names: readonly string[]) => MachineOptions
}

/**
 * Makes the machines of a lab able to run Kubernetes: the programs, container runtime and images are in them, pods reach
 * each other through the lab's network, every machine knows the others by name. Nothing is started.
 */
export async function prepareClusterLab(lab: Lab): Promise<ClusterLab> {
  const layer = await ensureContainerLayer(lab.root)
  const programs = await ensurePrograms()
  const own = join(lab.dir, 'programs')
  const binds = [
    `${programs}:/opt/kubernetes`,
    `${await packagedPrograms('k0s', join(own, 'k0s'))}:/opt/k0s`,
    `${await packagedPrograms('k3s', join(own, 'k3s'))}:/opt/k3s`,
    `${await writePackages(join(own, 'packages'))}:/opt/packages`,
  ]
  await routePods(lab)
  const layers = [layer]
  return {
    layers,
    machine: (index, names) => ({
      layers,
      binds,
      data: DATA,
      containers: true,
      files: filesOf(index, names),
    }),
  }
}

/** The lab's network carries packets between machines' pods: it is their default route. */
async function routePods(lab: Lab): Promise<void> {
  const [command = '', ...args] = lab.inside
  const inside = async (...words: readonly string[]) => await must(command, [...args, ...words])
  await inside('sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward')
  for (let index = 0; index < 20; index += 1) {
    // Without its machine an address is only unreachable.
    await inside('ip', 'route', 'replace', podSubnet(index), 'via', machineAddress(index))
  }
}

function filesOf(index: number, names: readonly string[]): Readonly<Record<string, string>> {
  const hosts = names.map((name, number) => `${machineAddress(number)} ${name}`)
  const bridge = {
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipMasq: true,
    ipam: {
      type: 'host-local',
      ranges: [[{ subnet: podSubnet(index) }]],
      routes: [{ dst: '0.0.0.0/0' }],
    },
  }
  return {
    'etc/hosts': ['127.0.0.1 localhost', '::1 localhost', ...hosts, ''].join('\n'),
    'etc/resolv.conf': '',
    'etc/cni/net.d/10-lab.conflist': `${JSON.stringify({ cniVersion: '1.0.0', name: 'lab', plugins: [bridge] })}\n`,
    // A negative oom_score_adj is not to be had in these machines.
    'etc/k0s/containerd.d/lab.toml': `version = 2\n${CRI_LINES}`,
    'etc/containerd/config.toml': `version = 2\n${CRI_LINES}  sandbox_image = "registry.k8s.io/pause:3.10"\n${CNI_LINES}`,
  }
}

const CRI_LINES = '[plugins."io.containerd.grpc.v1.cri"]\n  restrict_oom_score_adj = true\n'
const CNI_LINES = '[plugins."io.containerd.grpc.v1.cri".cni]\n  bin_dir = "/usr/lib/cni"\n'
