import { isServerRole } from '../cluster-facts.ts'
import { type Distributed, hostOf, ownAddress } from '../driver-base.ts'
import { SPENT_TOKEN } from '../kubernetes/bootstrap-tokens.ts'
import { authorityInKubeconfig } from '../node/certificates.ts'
import { DONE, failed, type Result } from '../result.ts'
import { peerUrl, startEnvironment } from './initial-cluster.ts'
import { AUTHORITY_FILES, bootstrapKubeconfig, giveToUsers, KUBERNETES_DIR, PKI } from './pki.ts'

/** Where kubeadm puts what our units read from `KUBERNETES_DIR`. */
const KUBEADM_DIR = '/etc/kubernetes'
const CONFS = ['admin', 'controller-manager', 'scheduler', 'kubelet'] as const

/**
 * What the units of an adopted node need at a boot, from what lies on its disk. What kubeadm put elsewhere is copied, never
 * moved: what runs goes on with its own files.
 */
export async function giveBackFiles(of: Distributed, hasKubelet: boolean): Promise<Result<void>> {
  const { deps } = of
  const { files, facts, nodeName } = deps
  const server = isServerRole(facts.role)
  await copyFromKubeadm(of)
  const kubeletConf = (await files.read(`${KUBERNETES_DIR}/kubelet.conf`))?.toString('utf8') ?? ''
  const held = (await files.read(`${PKI}/ca.crt`)) ?? authorityInKubeconfig(kubeletConf)
  if (!held) return failed('unreadable', `no authority in ${PKI}/ca.crt or ${KUBERNETES_DIR}/kubelet.conf`)
  const authority = held.toString('utf8')
  if ((await files.read(`${PKI}/ca.crt`)) === undefined) await files.write(`${PKI}/ca.crt`, authority, 0o644)
  const address = await ownAddress(deps)
  if (server) {
    for (const name of AUTHORITY_FILES) {
      if ((await files.read(`${PKI}/${name}`)) !== undefined) continue
      return failed(
        'precondition',
        `no ${PKI}/${name}: without it no server can join; put the cluster's own there`,
      )
    }
    if (address === undefined) return failed('precondition', 'the address of this node is not known yet')
    // What guards the datastore would keep a server from starting whose data lies elsewhere.
    const data = `${facts.etcdDataDir}/member`
    if ((await deps.system.exists(data)).kind !== 'present') {
      return failed(
        'precondition',
        `no ${data}, though etcd runs on this server by its configuration: say where it keeps its data (muster.kubernetes.components.etcd.dataDir, or services.etcd.dataDir)`,
      )
    }
    // Of no account while its datastore is there, and it has to be there: else the unit does not start.
    await files.put('start.env', startEnvironment(`${nodeName}=${peerUrl(address)}`, 'existing'))
  }
  if (hasKubelet) {
    const known = [...facts.servers.values()].find(each => each !== undefined)
    const at = (server ? address : (facts.endpoint ?? known)) ?? 'localhost'
    const conf = bootstrapKubeconfig(authority, `${hostOf(at)}:${facts.apiPort}`, SPENT_TOKEN)
    await files.put('bootstrap-kubelet.conf', conf)
  }
  return server ? await giveToUsers(of, undefined) : DONE
}

async function copyFromKubeadm({ deps: { files } }: Distributed): Promise<void> {
  const copy = async (name: string, mode: number) => {
    if ((await files.read(`${KUBERNETES_DIR}/${name}`)) !== undefined) return
    const found = await files.read(`${KUBEADM_DIR}/${name}`)
    if (found) await files.write(`${KUBERNETES_DIR}/${name}`, found.toString('utf8'), mode)
  }
  for (const folder of ['pki', 'pki/etcd']) {
    for (const name of await files.list(`${KUBEADM_DIR}/${folder}`)) {
      if (/\.(crt|pub)$/.test(name)) await copy(`${folder}/${name}`, 0o644)
      if (name.endsWith('.key')) await copy(`${folder}/${name}`, 0o600)
    }
  }
  for (const name of CONFS) await copy(`${name}.conf`, 0o600)
}
