import { isIP } from 'node:net'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { SecretPurpose } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { compareVersions, parseVersion, versionText } from '../../../shared/kubernetes/version.ts'
import { judgeMint } from '../../../shared/sealing/judge-mint.ts'
import { MAX_SECRET_BYTES, sealSecret } from '../../../shared/sealing/seal-secret.ts'
import { SecretBytes } from '../../../shared/sealing/secret-bytes.ts'
import { msFromDuration } from '../../../shared/time.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { ClusterDriver, DriverState } from '../../drivers/driver.ts'
import { writeJoinSecret } from '../../drivers/join-secret.ts'
import { describeToken } from '../../drivers/kubernetes/bootstrap-tokens.ts'
import { done, type Result } from '../../drivers/result.ts'
import { endOperation, owe } from '../cluster-operation.ts'
import { nodeRole } from '../roles.ts'
import {
  type ActContext,
  type ActEnd,
  describeShortfalls,
  failedAct,
  findAsServer,
  fromDriver,
  whyNotOurs,
} from './act.ts'

/**
 * Mints a token for one machine, seals it to that machine's key and signs it. For whom is judged by the signed manifest; what
 * was minted for the same operation before an earlier kill is deleted by the driver first.
 */
export async function mintSecret(context: ActContext<'mint'>): Promise<ActEnd> {
  const { deps, driver, order, options, action } = context
  const { host, role, joinerKey, lifetime } = action.value
  const found = await findAsServer(context, order.cluster)
  if (found.kind === 'failed') return found
  const lifetimeMs = lifetime ? msFromDuration(lifetime) : 0
  const verdict = judgeMint(found.named, deps.identity.id, {
    cluster: order.cluster,
    host,
    role,
    joinerKey,
    lifetimeMs,
  })
  if (verdict.kind === 'refused') return failedAct(`mint-${verdict.class}`, verdict.reason)
  const joins = nodeRole(role)
  const fleetId = deps.trust()?.set.fleetId
  if (joins === undefined || fleetId === undefined) return failedAct('mint-role', 'role: is none that joins')
  const state = await driver.readState(options.signal)
  const refused = whyNotOurs(state)
  if (refused) return refused
  // What the joiner says of itself has come by way of the coordinator: one that lies keeps it from joining, no more.
  const said = isIP(action.value.address) === 0 ? undefined : action.value.address
  const address = driver.facts.servers.get(host) ?? said
  const { distribution } = driver.facts
  if (
    isServerRole(joins) &&
    address === undefined &&
    (distribution === 'components' || distribution === 'kubernetes')
  ) {
    return failedAct(
      'precondition',
      `the address of ${host} is not known here: its datastore member is added by it; give the host an \`address\` in fleet.toml`,
    )
  }
  const machineId = action.value.machineId === '' ? undefined : action.value.machineId
  const joiner = { node: host, role: joins, address: address ?? '', machineId }
  const known = await driver.cluster.checkJoiner(joiner, options.signal)
  if (known.kind === 'failed') return fromDriver(known)
  // What is left under its own name is cleared before a token is asked for, and may be the joiner itself.
  const taken = known.value.filter(({ what }) => what === 'address' || what === 'machine-id')
  if (taken.length > 0) return failedAct('precondition', describeShortfalls(taken))
  const clusterVersion = await oldestServer(driver, state, options.signal)
  await context.begin()
  if (context.operation().token !== 'kept') return failedAct('stopped', 'its token was asked to be deleted')
  const request = { ...joiner, operation: order.operationId, lifetimeMs }
  const minted = await driver.cluster.mint(request, options.signal)
  if (minted.kind === 'failed') return fromDriver(minted)
  const { secret: joinSecret, tokenId } = minted.value
  // Before anybody is given it: whatever happens from here on, it can be deleted.
  await context.update(before => ({ ...before, tokenId }))
  using secret = new SecretBytes(Buffer.from(writeJoinSecret({ ...joinSecret, clusterVersion })))
  if (secret.length > MAX_SECRET_BYTES)
    return failedAct('precondition', 'the secret is too long to be sealed')
  const mintedMs = deps.clock.now().getTime()
  const sealed = sealSecret({
    binding: {
      purpose: SecretPurpose.JOIN,
      fleetId,
      cluster: order.cluster,
      role,
      operationId: order.operationId,
      mintedMs,
      expiresMs: mintedMs + lifetimeMs,
    },
    secret,
    recipientKey: joinerKey,
    minterKey: deps.identity.privateKeyPem,
  })
  await context.update(before => {
    const ended = endOperation(before, mintedMs)
    // Asked to be deleted meanwhile: nobody is given it any more.
    return before.token === 'kept'
      ? owe(ended, {
          case: 'minted',
          value: { $typeName: 'muster.v1.SecretMinted', secret: sealed, tokenId },
        })
      : ended
  })
  return { kind: 'told' }
}

/**
 * Deletes what was minted for an operation, here or on another server, and says so when a listing shows that it is gone. Also
 * what nobody knows the id of, because its minter was killed before it wrote it down.
 */
export async function deleteToken(
  driver: ClusterDriver,
  operation: string,
  ids: readonly string[],
  signal: AbortSignal,
): Promise<Result<void>> {
  for (const id of new Set(ids)) {
    const deleted = await driver.cluster.deleteToken(id, signal)
    // It is no id of a token, or there is none of it.
    if (deleted.kind === 'failed' && deleted.class !== 'not-found') return deleted
  }
  const mark = describeToken(operation, '')
  const listed = await driver.cluster.listTokens(signal)
  if (listed.kind === 'failed') return listed
  for (const { id, description } of listed.value) {
    if (!description.startsWith(mark)) continue
    const deleted = await driver.cluster.deleteToken(id, signal)
    if (deleted.kind === 'failed') return deleted
  }
  return done(undefined)
}

export const deletedAt = (nowMs: number) =>
  ({
    case: 'deleted',
    value: { $typeName: 'muster.v1.SecretDeleted', listed: timestampFromMs(nowMs) },
  }) as const

/** Of the API servers that can be seen from here the oldest: this one's own, and by their kubelets those that have a Node. */
async function oldestServer(
  { cluster, facts }: ClusterDriver,
  { runningVersion }: DriverState,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const listed = await cluster.nodes(signal)
  const nodes = listed.kind === 'done' ? listed.value.filter(({ name }) => facts.servers.has(name)) : []
  const versions = [runningVersion ?? '', ...nodes.map(node => node.kubeletVersion)].flatMap(
    text => parseVersion(text) ?? [],
  )
  const [oldest] = versions.toSorted(compareVersions)
  return oldest && versionText(oldest)
}
