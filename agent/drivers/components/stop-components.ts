import { type ClusterFacts, isServerRole, type KubeletFacts } from '../cluster-facts.ts'
import type { PodSandbox } from '../cri/wire.ts'
import type { Distributed } from '../driver-base.ts'
import { clearPodNetwork } from '../node/pod-network.ts'
import { stopUnits } from '../node/services.ts'
import { takePodsAway } from '../node/take-pods-away.ts'
import { unmountBelow } from '../node/unmount-below.ts'
import { DONE, failed, type Result } from '../result.ts'
import { KUBERNETES_DIR } from './pki.ts'

const KUBELET_UNIT = 'kubelet.service'
const STATIC_PODS_UNIT = 'muster-static-pods.service'
/** Where `muster-static-pods.service` puts them for the kubelet. */
const MANIFESTS = `${KUBERNETES_DIR}/manifests`
const CONTROL_PLANE = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const

export const hasStaticPods = ({ units }: ClusterFacts): boolean => units.includes(STATIC_PODS_UNIT)

type Meant = 'control-plane' | 'every-pod'

/**
 * Stops Kubernetes, also where the control plane is static pods, which outlive the kubelet that made them. Their manifests go first, so
 * that no kubelet brings them back; starting the units puts them there again. Other pods go on.
 */
export async function stopComponents(of: Distributed, signal?: AbortSignal): Promise<Result<void>> {
  return await stopWithPods(of, 'control-plane', signal)
}

/** The same, and every pod of this machine ends and is taken away with what it was given: its volumes and its secrets. */
export async function stopForGood(of: Distributed, signal?: AbortSignal): Promise<Result<void>> {
  const stopped = await stopWithPods(of, 'every-pod', signal)
  const { system, files, facts } = of.deps
  if (stopped.kind === 'failed' || !facts.kubelet) return stopped
  // As mounts are named; by way of a link none would be found, and volumes be emptied.
  const folder = await files.resolve(facts.kubelet.folder)
  const pods = `${folder}/pods`
  const unmounted = await unmountBelow(system, [pods, `${folder}/plugins`], signal)
  if (unmounted.kind === 'failed') return unmounted
  for (const name of await files.list(pods)) await files.remove(`${pods}/${name}`)
  return await clearPodNetwork(system, files, signal)
}

async function stopWithPods(
  of: Distributed,
  meant: Meant,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const { system, files, facts } = of.deps
  const manifests = CONTROL_PLANE.map(name => `${name}.json`)
  const there = (await files.list(MANIFESTS)).filter(name => manifests.includes(name))
  for (const name of there) await files.remove(`${MANIFESTS}/${name}`)
  const { kubelet } = facts
  if (kubelet && (meant === 'every-pod' || isServerRole(facts.role))) {
    // Before all else: it would start anew what is ended, and pods whose Node is gone are made elsewhere.
    const first = facts.units.includes(KUBELET_UNIT) ? [KUBELET_UNIT] : facts.units
    const down = await stopUnits(system, first, signal)
    if (down.kind === 'failed') return down
    const isStatic = there.length > 0 || hasStaticPods(facts)
    const taken = await takeAway(of, kubelet, meant, isStatic, signal)
    if (taken.kind === 'failed') return taken
  }
  return await stopUnits(system, facts.units, signal)
}

/** A runtime that does not answer is in the way only where pods that are meant may run. */
async function takeAway(
  { deps: { files, connectRuntime } }: Distributed,
  { folder, runtime: endpoint }: KubeletFacts,
  meant: Meant,
  isStatic: boolean,
  signal: AbortSignal | undefined,
): Promise<Result<void>> {
  const isMeant = meant === 'every-pod' ? () => true : isControlPlane
  const taken = await takePodsAway({ runtime: connectRuntime(endpoint), isMeant, signal })
  if (taken.kind === 'done' || taken.class !== 'precondition') return taken
  const mayRun = isStatic || (meant === 'every-pod' && (await files.list(`${folder}/pods`)).length > 0)
  return mayRun
    ? failed(
        'precondition',
        `${taken.reason}; pods may go on running here: start the runtime, which ends them`,
      )
    : DONE
}

/** A static pod has the node's name behind its own. */
function isControlPlane({ name, namespace, isStatic }: PodSandbox): boolean {
  return isStatic && namespace === 'kube-system' && CONTROL_PLANE.some(part => name.startsWith(`${part}-`))
}
