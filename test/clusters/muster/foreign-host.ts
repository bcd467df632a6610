import { CALLED } from '../../lab/foreign-system.ts'
import type { ClusterFleet } from './cluster-fleet.ts'
import { type Host, kubernetesFiles, PROFILE } from './rendered-system.ts'

/** All that Muster may not change on a machine whose system somebody else manages, and what it may put there. */
export interface SeenForeign {
  /** Files and links of /etc with what they hold or lead to, the system's links and profiles, calls of what changes systems. */
  readonly others: readonly string[]
  /** Files of /etc that lead into the profile of Kubernetes. */
  readonly brought: readonly string[]
}

// A machine id is the machine's, and a test gives it another.
const LOOK = `
cd /etc
find . -xdev -type f ! -path ./machine-id -exec sha256sum {} + | awk '{print $2, $1}'
find . -xdev -type l -printf '%p -> %l\\n'
for path in /run/current-system /run/booted-system /nix/var/nix/profiles/*; do
  case $path in /nix/var/nix/profiles/muster-kubernetes*) continue ;; esac
  if [ -e "$path" ] || [ -L "$path" ]; then echo "$path is there"; fi
done
if [ -e ${CALLED} ]; then cat ${CALLED}; fi`

export async function seeForeign(made: ClusterFleet, host: Host): Promise<SeenForeign> {
  const lines = (await made.machine(host).ok(['sh', '-c', LOOK])).split('\n').filter(line => line !== '')
  const leads = ` -> ${PROFILE}/etc/`
  const isBrought = (line: string) => line.includes(leads)
  return {
    others: lines.filter(line => !isBrought(line)).toSorted(),
    brought: lines
      .filter(isBrought)
      .map(line => line.slice('./'.length, line.indexOf(' -> ')))
      .toSorted(),
  }
}

/** What the package of Kubernetes brings to a host of these, and the links that start it at a boot. */
export function broughtTo(made: ClusterFleet, host: Host): readonly string[] {
  const wants = 'systemd/system/multi-user.target.wants'
  const atBoot = ['muster-cluster-secrets.service', 'muster-kubernetes.service']
  return [...kubernetesFiles(made.fixture, host), ...atBoot.map(name => `${wants}/${name}`)].toSorted()
}
