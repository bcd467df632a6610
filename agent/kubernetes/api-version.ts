import { type ClusterFacts, readClusterFacts } from '../drivers/cluster-facts.ts'
import { runningVersion } from '../drivers/driver-base.ts'
import { askApi } from '../drivers/kubernetes/ask-api.ts'
import { createKubectl, type Kubectl } from '../drivers/kubernetes/kubectl.ts'
import type { System } from '../system/system.ts'

interface Asking {
  readonly program: string
  readonly before: readonly string[]
  readonly kubeconfig: string
}

const asKubelet: Readonly<Record<ClusterFacts['distribution'], Asking>> = {
  k3s: asking('k3s', ['kubectl'], '/var/lib/rancher/k3s/agent/kubelet.kubeconfig'),
  k0s: asking('k0s', ['kubectl'], '/var/lib/k0s/kubelet.conf'),
  kubernetes: asking('kubectl', [], '/var/lib/kubernetes/kubelet.conf'),
  components: asking('kubectl', [], '/var/lib/kubernetes/kubelet.conf'),
}

function asking(program: string, words: readonly string[], kubeconfig: string): Asking {
  return { program, before: [...words, `--kubeconfig=${kubeconfig}`], kubeconfig }
}

/** Of the API server that this machine's kubelet speaks to. undefined: it cannot be asked. */
export async function apiVersion(system: System, signal: AbortSignal): Promise<string | undefined> {
  const kubectl = await kubectlOfKubelet(system)
  return kubectl && (await runningVersion(kubectl, signal))
}

/** Asks with the kubelet's own credentials, which a worker has, too. undefined: the machine is no node. */
export async function kubectlOfKubelet(system: System): Promise<Kubectl | undefined> {
  const reading = await readClusterFacts(system)
  if (reading.kind !== 'facts') return undefined
  const { distribution, programs } = reading.facts
  return createKubectl({
    programs: { system, folders: programs },
    ...asKubelet[distribution],
    askApi,
  })
}
