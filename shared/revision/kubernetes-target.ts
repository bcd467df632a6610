import type { Target } from '../gen/muster/v1/manifest_pb.ts'
import { parseVersion } from '../kubernetes/version.ts'
import { checkClosure } from './check-closure.ts'
import { hasForeignSystem } from './foreign-system.ts'

/** What of a host's configuration its own profile of Kubernetes shall hold. */
export function kubernetesAttribute(attribute: string): string {
  return `nixosConfigurations.${attribute}.config.muster.kubernetes.profile.package`
}

// The attribute becomes part of a flake reference, so nothing that could end it or start another may stand in it.
const ATTRIBUTE =
  /^nixosConfigurations\.[A-Za-z0-9_][A-Za-z0-9_'-]{0,127}\.config\.muster\.kubernetes\.profile\.package$/

/** What is wrong with the Kubernetes of a target; undefined: nothing. */
export function checkKubernetes(place: string, target: Target): string | undefined {
  const { kubernetes, cluster, role } = target
  if (!kubernetes) return undefined
  const { version, apart, way, externalSystem } = kubernetes
  const part = `${place} kubernetes`
  if (cluster === '' || role === 'none') return `${part}: belongs to a member of a cluster alone`
  if (version !== '' && !parseVersion(version)) return `${part} version: must be such as 1.34.3`
  if (externalSystem !== hasForeignSystem(target)) {
    return `${part} external_system: must be so exactly where the target has no system of its own`
  }
  if (!apart) {
    return way.case === undefined && !externalSystem
      ? undefined
      : `${part}: has a way of its own or an external system, which only what lives apart has`
  }
  switch (way.case) {
    case undefined:
      return `${part}: lives apart and says neither source nor closure`
    case 'source':
      return ATTRIBUTE.test(way.value.attribute)
        ? undefined
        : `${part} source attribute: must be ${kubernetesAttribute('NAME')}`
    case 'closure':
      return checkClosure(part, way.value)
  }
}
