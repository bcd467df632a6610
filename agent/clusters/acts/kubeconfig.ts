import { ClusterRole, SecretPurpose } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { parseHostPort } from '../../../shared/host-port.ts'
import { sealSecret } from '../../../shared/sealing/seal-secret.ts'
import { MAX_LIFETIME_MS } from '../../../shared/sealing/secret-binding.ts'
import { SecretBytes } from '../../../shared/sealing/secret-bytes.ts'
import { hostOf } from '../../drivers/driver-base.ts'
import { type ActContext, type ActEnd, failedAct, findAsServer, fromDriver, whyNotOurs } from './act.ts'
import { obeyOperator } from './obey-operator.ts'

/** Makes an administrator's kubeconfig and seals it to the key that an operator signed for, so that nobody else reads it. */
export async function issueKubeconfig(context: ActContext<'kubeconfig'>): Promise<ActEnd> {
  const { deps, driver, order, options, action } = context
  const { serverAddress, signedOrder } = action.value
  // Whoever opens it takes it from a server that the manifest names, and from no other.
  const found = await findAsServer(context, order.cluster)
  if (found.kind === 'failed') return found
  const wanted = {
    act: 'kubeconfig',
    node: driver.nodeName,
    machine: deps.identity.id,
    parameter: '',
  } as const
  const obeyed = await obeyOperator(context, signedOrder, wanted)
  if (obeyed.kind === 'failed') return obeyed
  const notOurs = whyNotOurs(await driver.readState(options.signal))
  if (notOurs) return notOurs
  const address = serverAddress === '' ? await ownServer(context) : serverAddress
  if (address === undefined || !parseHostPort(address))
    return failedAct('precondition', 'the address of the API server is not known: name it as host:port')
  await context.begin()
  const text = await driver.cluster.kubeconfig(address, options.signal)
  if (text.kind === 'failed') return fromDriver(text)
  using secret = new SecretBytes(Buffer.from(text.value))
  const mintedMs = deps.clock.now().getTime()
  const sealed = sealSecret({
    binding: {
      purpose: SecretPurpose.KUBECONFIG,
      fleetId: obeyed.order.fleetId,
      cluster: order.cluster,
      role: ClusterRole.UNSPECIFIED,
      operationId: order.operationId,
      mintedMs,
      expiresMs: mintedMs + MAX_LIFETIME_MS,
    },
    secret,
    recipientKey: obeyed.order.recipientKey,
    minterKey: deps.identity.privateKeyPem,
  })
  return { kind: 'done', value: { case: 'kubeconfig', value: sealed } }
}

/** The cluster's own address, or else this server's. */
async function ownServer({ driver }: ActContext<'kubeconfig'>): Promise<string | undefined> {
  const { endpoint, apiPort, nodeAddress, servers } = driver.facts
  if (endpoint !== undefined && parseHostPort(endpoint)) return endpoint
  const host = endpoint ?? nodeAddress ?? servers.get(driver.nodeName)
  return host === undefined ? undefined : `${hostOf(host)}:${apiPort}`
}
