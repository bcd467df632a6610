import type { ClusterFiles } from '../node/cluster-files.ts'
import { K3S_DATA } from './k3s-places.ts'

const CONFIG = '/etc/rancher/k3s/config.yaml'

/**
 * Whether a file of k3s puts its data elsewhere; undefined: none does. What lies in the usual place is what keeps this machine from founding
 * another cluster, and only there is it seen.
 */
export async function whyDataElsewhere(files: ClusterFiles): Promise<string | undefined> {
  const more = (await files.list(`${CONFIG}.d`)).filter(name => /\.ya?ml$/.test(name))
  for (const path of [CONFIG, ...more.map(name => `${CONFIG}.d/${name}`)]) {
    const text = (await files.read(path))?.toString('utf8') ?? ''
    if (/^\s*['"]?data-dir\+?['"]?\s*:/m.test(text)) {
      return `${path} says data-dir, and k3s of a cluster of Muster's keeps its data in ${K3S_DATA}: take that line out, and mount a file system of your own there`
    }
  }
  return undefined
}
