import { SecretPurpose } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { parseHostPort } from '../../../shared/host-port.ts'
import { judgeJoin } from '../../../shared/kubernetes/judge-skew.ts'
import { parseVersion } from '../../../shared/kubernetes/version.ts'
import type { KnownCluster } from '../../../shared/revision/clusters.ts'
import { openSecret } from '../../../shared/sealing/open-secret.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import { openFile, sealFile } from '../../cluster-secrets/sealed-file.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { JoinSecret } from '../../drivers/driver.ts'
import { readJoinSecret } from '../../drivers/join-secret.ts'
import { owe } from '../cluster-operation.ts'
import { wireRole } from '../roles.ts'
import {
  type ActContext,
  type ActEnd,
  type ActFailure,
  failedAct,
  findAsServer,
  findNamed,
  fromDriver,
} from './act.ts'
import { makeRoom } from './make-room.ts'

/** The name under which a join's secret is sealed to the machine's own key. */
const SECRET_NAME = 'join-secret'

/** Starts the cluster's first server here, where the signed manifest says that this machine is a server of it. */
export async function foundCluster(context: ActContext<'found'>): Promise<ActEnd> {
  const { driver, options, order } = context
  if (context.operation().stage === 'accepted') {
    const found = await findAsServer(context, order.cluster)
    if (found.kind === 'failed') return found
    const refused = await makeRoom(context)
    if (refused) return refused
    await context.begin()
  }
  const ended = await driver.found(order.operationId, options)
  return ended.kind === 'failed' ? fromDriver(ended) : { kind: 'done', authority: ended.value.authority }
}

/**
 * Joins with a secret that a server minted for this very machine and operation. The secret is on disk, sealed to this
 * machine's own key, before anybody is told that it is here, and counts as used before it is used.
 */
export async function joinCluster(context: ActContext<'join'>): Promise<ActEnd> {
  const { driver, options, order, deps } = context
  if (context.operation().stage === 'accepted') {
    const refused = (await takeSecret(context)) ?? (await judgeVersion(context)) ?? (await makeRoom(context))
    if (refused) return refused
    await context.begin()
  }
  const { secret: held, spent } = context.operation()
  const secret = held && openHeld(deps.identity.privateKeyPem, held)
  if (!secret || !spent)
    return failedAct('unreadable', 'the secret that was kept for it cannot be read any more')
  const why = await deps.replay.spend(spent, deps.clock.now().getTime())
  if (why !== undefined) return failedAct('secret-replayed', why)
  const at = context.action.value.serverAddress
  // Servers of k3s take the token that each was started with: who minted it takes it, another one maybe not yet.
  const byMinter = driver.facts.distribution === 'k3s' && isServerRole(driver.facts.role)
  const server = byMinter || parseHostPort(at) === undefined ? secret.server : at
  const ended = await driver.join(order.operationId, { ...secret, server }, options)
  return ended.kind === 'failed' ? fromDriver(ended) : { kind: 'done', authority: ended.value.authority }
}

/** Opens the secret and keeps it; a failure: it is not for this machine, this operation or this moment. */
async function takeSecret(context: ActContext<'join'>): Promise<ActFailure | undefined> {
  const { deps, order, driver, action } = context
  if (context.operation().secret) return undefined
  const { secret: sealed } = action.value
  if (!sealed) return failedAct('secret-malformed', 'the secret is missing')
  const found = await findNamed(context, order.cluster)
  if (found.kind === 'failed') return found
  const refusedRole = judgeRole(found.named, found.own?.role, driver.facts.role)
  if (refusedRole) return refusedRole
  const fleetId = deps.trust()?.set.fleetId
  const { spent } = deps.replay
  if (fleetId === undefined || !spent)
    return failedAct(
      'secret-replayed',
      'nobody knows which secrets were used here: its record cannot be read',
    )
  const opened = openSecret(sealed, deps.identity.privateKeyPem, {
    binding: {
      purpose: SecretPurpose.JOIN,
      fleetId,
      cluster: order.cluster,
      role: wireRole(driver.facts.role),
      recipient: keyId(deps.identity.publicKeyDer),
      operationId: order.operationId,
    },
    minters: mintersOf(found.named),
    spent,
    nowMs: deps.clock.now().getTime(),
  })
  if (opened.kind === 'refused') return failedAct(`secret-${opened.class}`, opened.reason)
  using secret = opened.secret
  if (!readJoinSecret(secret.reveal().toString('utf8')))
    return failedAct('secret-malformed', 'the secret is none that a machine could join with')
  const kept = sealFile(deps.identity.publicKeyDer, SECRET_NAME, secret.reveal())
  const spending = { digest: opened.digest, expiresMs: opened.binding.expiresMs }
  await context.update(before =>
    owe(
      { ...before, secret: kept, spent: spending },
      { case: 'received', value: { $typeName: 'muster.v1.SecretReceived' } },
    ),
  )
  return undefined
}

/**
 * Whether the Kubernetes that is here may join the servers that its minter knew of. Where either cannot be told, the broker alone has
 * judged.
 */
async function judgeVersion({
  deps,
  driver,
  operation,
  options,
}: ActContext<'join'>): Promise<ActFailure | undefined> {
  const { secret: held } = operation()
  const said = held && openHeld(deps.identity.privateKeyPem, held)?.clusterVersion
  const { installedVersion } = await driver.readState(options.signal)
  const [api, own] = [parseVersion(said ?? ''), parseVersion(installedVersion ?? '')]
  if (!api || !own) return undefined
  const servers = [{ host: 'a server', version: api }]
  const [problem] = judgeJoin(driver.nodeName, isServerRole(driver.facts.role), own, servers, [])
  return problem && failedAct('skew', `this machine's Kubernetes does not fit the cluster: ${problem.reason}`)
}

/** Ids of the machines whose secrets count: its servers by the signed manifest. */
export const mintersOf = ({ members }: KnownCluster): ReadonlySet<string> =>
  new Set(
    members.flatMap(({ role, machine }) => (role === 'worker' || machine === undefined ? [] : [machine])),
  )

/** What the machine's own configuration says that it is must be what the manifest says. */
function judgeRole(
  named: KnownCluster,
  listed: string | undefined,
  configured: string,
): ActFailure | undefined {
  const byRule = listed === undefined && named.admitsWorkers && configured === 'worker'
  const unkeyed =
    listed === undefined && configured === 'worker' && named.members.some(m => m.machine === undefined)
  if (listed === configured || byRule || unkeyed) return undefined
  return listed === undefined
    ? failedAct(
        'manifest',
        `the signed manifest names no such machine in ${named.cluster}: bind it and publish`,
      )
    : failedAct(
        'manifest',
        `this machine is ${listed} by the signed manifest, its configuration says ${configured}`,
      )
}

function openHeld(privateKeyPem: string, held: Uint8Array): JoinSecret | undefined {
  const opened = openFile(privateKeyPem, SECRET_NAME, held)
  return opened.kind === 'opened' ? readJoinSecret(opened.bytes.toString('utf8')) : undefined
}
