import type { X509Certificate } from 'node:crypto'
import { isServerRole } from '../cluster-facts.ts'
import { type Distributed, type DriverDeps, hostOf, ownAddress, untilUp } from '../driver-base.ts'
import {
  createKubeletToken,
  deleteBootstrapToken,
  deleteTokensOf,
  describeToken,
  SPENT_TOKEN,
} from '../kubernetes/bootstrap-tokens.ts'
import type { WaitOptions } from '../kubernetes/wait-options.ts'
import { readCertificate } from '../node/certificates.ts'
import { DONE, failed, type Result } from '../result.ts'
import { bootstrapKubeconfig, KUBERNETES_DIR, PKI } from './pki.ts'

// INVARIANT: the kubelet of a server speaks to the API server beside it, and to no other. Servers move to another version one after the
// other, each with its kubelet: one that spoke to another server would be newer than that, which Kubernetes does not support.

const CALL_MS = 60_000
const FOUNDER_TOKEN_MS = 15 * 60_000
const KUBELET_CONF = `${KUBERNETES_DIR}/kubelet.conf`

/** The kubeconfig that a server's kubelet joins by. */
async function putOwnKubeconfig({ files, facts }: DriverDeps, address: string, token: string): Promise<void> {
  const authority = (await files.read(`${PKI}/ca.crt`))?.toString('utf8') ?? ''
  const server = `${hostOf(address)}:${facts.apiPort}`
  await files.put('bootstrap-kubelet.conf', bootstrapKubeconfig(authority, server, token))
}

/**
 * A kubelet ends where there is no such file, and here nothing that could mint a token runs before the kubelet does. With one that opens
 * nothing it starts the static pods.
 */
export async function putSpentKubeconfig({ deps }: Distributed, address: string): Promise<void> {
  await putOwnKubeconfig(deps, address, SPENT_TOKEN)
}

interface BroughtIn {
  readonly address: string
  readonly token: string
  readonly options: WaitOptions
  readonly kubeletIsIn: () => Promise<boolean>
}

/** Has the kubelet of this server join by a token, once the API server beside it answers. */
export async function bringIn(
  of: Distributed,
  { address, token, options, kubeletIsIn }: BroughtIn,
): Promise<Result<void>> {
  await putOwnKubeconfig(of.deps, address, token)
  // It may have ended for want of the file, and waits before it starts anew.
  const restarted = await of.deps.system.run('systemctl', ['restart', '--no-block', 'kubelet.service'], {
    deadlineMs: CALL_MS,
  })
  if (restarted.ending.kind !== 'exited')
    return failed('command', 'systemctl restart kubelet.service: was not run')
  return await untilUp(of, 'the kubelet of this server', options, kubeletIsIn)
}

/**
 * Has a kubelet that joined by way of another server, or of an endpoint, speak to the API server beside it from its next start on. Where
 * that one's certificate does not have the address of this node it stays as it is: the kubelet would not take it.
 */
export async function turnToOwnServer(deps: DriverDeps): Promise<void> {
  const { files, facts } = deps
  if (!isServerRole(facts.role)) return
  const text = (await files.read(KUBELET_CONF))?.toString('utf8')
  const address = text === undefined ? undefined : await ownAddress(deps)
  if (text === undefined || address === undefined) return
  const certificate = readCertificate((await files.read(`${PKI}/apiserver.crt`)) ?? Buffer.alloc(0))
  if (!certificate || !names(certificate, address)) return
  const turned = text.replace(
    /^(\s*server:\s*)\S+$/m,
    (_, key: string) => `${key}https://${hostOf(address)}:${facts.apiPort}`,
  )
  if (turned !== text) await files.write(KUBELET_CONF, turned)
}

function names(certificate: X509Certificate, address: string): boolean {
  return (certificate.checkIP(address) ?? certificate.checkHost(address, { subject: 'never' })) !== undefined
}

/** The kubelet of the first server joins its own cluster, by a token like every other. */
export async function joinOwnKubelet(
  of: Distributed,
  operation: string,
  address: string,
  options: WaitOptions,
  kubeletIsIn: () => Promise<boolean>,
): Promise<Result<void>> {
  const { deps, kubectl } = of
  const { nodeName } = deps
  if (!(await kubeletIsIn())) {
    const cleared = await deleteTokensOf(kubectl, operation, options.signal)
    if (cleared.kind === 'failed') return cleared
    const expires = new Date(deps.clock.now().getTime() + FOUNDER_TOKEN_MS)
    const token = await createKubeletToken(
      kubectl,
      describeToken(operation, nodeName),
      expires,
      options.signal,
    )
    if (token.kind === 'failed') return token
    const up = await bringIn(of, { address, token: token.value.text, options, kubeletIsIn })
    const deleted = await deleteBootstrapToken(kubectl, token.value.id, options.signal)
    if (up.kind === 'failed') return up
    if (deleted.kind === 'failed') return deleted
  }
  await putSpentKubeconfig(of, address)
  return DONE
}
