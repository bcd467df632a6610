import { type ClusterFacts, readClusterFacts } from '../drivers/cluster-facts.ts'
import { runningVersion } from '../drivers/driver-base.ts'
import { createKubectl } from '../drivers/kubernetes/kubectl.ts'
import type { System } from '../system/system.ts'

interface Asking {
  readonly program: string
  readonly before: readonly string[]
}

const asKubelet: Readonly<Record<ClusterFacts['distribution'], Asking>> = {
  k3s: { program: 'k3s', before: ['kubectl', '--kubeconfig=/var/lib/rancher/k3s/agent/kubelet.kubeconfig'] },
  k0s: { program: 'k0s', before: ['kubectl', '--kubeconfig=/var/lib/k0s/kubelet.conf'] },
  kubernetes: { program: 'kubectl', before: ['--kubeconfig=/var/lib/kubernetes/kubelet.conf'] },
  components: { program: 'kubectl', before: ['--kubeconfig=/var/lib/kubernetes/kubelet.conf'] },
}

/** Asks with the kubelet's own credentials, which a worker has, too. undefined: it cannot be asked. */
export async function apiVersion(system: System, signal: AbortSignal): Promise<string | undefined> {
  const reading = await readClusterFacts(system)
  if (reading.kind !== 'facts') return undefined
  const { distribution, programs } = reading.facts
  const kubectl = createKubectl({ programs: { system, folders: programs }, ...asKubelet[distribution] })
  return await runningVersion(kubectl, signal)
}
