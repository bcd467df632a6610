import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { SealedSecretSchema, SecretPurpose } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { openSecret } from '../../../shared/sealing/open-secret.ts'
import { sealSecret } from '../../../shared/sealing/seal-secret.ts'
import { SecretBytes } from '../../../shared/sealing/secret-bytes.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import type { ClusterFacts } from '../../drivers/cluster-facts.ts'
import type { Handover } from '../../drivers/driver.ts'
import { DONE, done, failed, type Result } from '../../drivers/result.ts'
import { wireRole } from '../roles.ts'
import { type ActDeps, findAsServer } from './act.ts'
import { mintersOf } from './found-and-join.ts'

/** How this machine hands tokens to the other servers of its cluster: to those, and from those, that the newest signed manifest names. */
export function createHandover(
  deps: ActDeps,
  { cluster, role }: Pick<ClusterFacts, 'cluster' | 'role'>,
): Handover {
  const { identity, replay, clock } = deps
  const named = async () => await findAsServer({ deps, options: { deadlineMs: 0 } }, cluster)
  const nowMs = () => clock.now().getTime()
  return {
    machine: identity.id,
    publicKey: identity.publicKeyDer,
    servers: async () => {
      const found = await named()
      if (found.kind === 'failed') return failed('precondition', found.reason)
      const servers = found.named.members.flatMap(({ host, role: its, machine }) =>
        its === 'worker' || machine === undefined ? [] : [[host, machine] as const],
      )
      return done(new Map(servers))
    },
    seal: async ({ id, node, key, text, expiresMs }): Promise<Result<Uint8Array>> => {
      const found = await named()
      const fleetId = deps.trust()?.set.fleetId
      if (found.kind === 'failed') return failed('precondition', found.reason)
      if (fleetId === undefined) return failed('precondition', 'this node has no trust set yet')
      const member = found.named.members.find(({ host }) => host === node)
      if (!member || member.role === 'worker' || member.machine !== keyId(key))
        return failed('precondition', `the signed manifest names no server ${node} with this key`)
      const mintedMs = nowMs()
      if (mintedMs >= expiresMs) return failed('timed-out', 'its time is over')
      using secret = new SecretBytes(Buffer.from(text))
      const sealed = sealSecret({
        binding: {
          purpose: SecretPurpose.NEXT_TOKEN,
          fleetId,
          cluster,
          role: wireRole(member.role),
          operationId: id,
          mintedMs,
          expiresMs,
        },
        secret,
        recipientKey: key,
        minterKey: identity.privateKeyPem,
      })
      return done(toBinary(SealedSecretSchema, sealed))
    },
    open: async (id, sealed) => {
      const found = await named()
      const fleetId = deps.trust()?.set.fleetId
      if (found.kind === 'failed') return failed('precondition', found.reason)
      const { spent } = replay
      if (fleetId === undefined || !spent)
        return failed('unreadable', 'nobody knows which secrets were used here: its record cannot be read')
      const message = readSealed(sealed)
      if (!message) return failed('unreadable', 'what is offered is no sealed secret')
      const opened = openSecret(message, identity.privateKeyPem, {
        binding: {
          purpose: SecretPurpose.NEXT_TOKEN,
          fleetId,
          cluster,
          role: wireRole(role),
          recipient: identity.id,
          operationId: id,
        },
        minters: mintersOf(found.named),
        spent,
        nowMs: nowMs(),
      })
      if (opened.kind === 'refused')
        return failed(
          'precondition',
          `the token that is offered is refused (${opened.class}): ${opened.reason}`,
        )
      using secret = opened.secret
      const { digest, binding } = opened
      return done({
        text: secret.reveal().toString('utf8'),
        expiresMs: binding.expiresMs,
        spend: async () => {
          const why = await replay.spend({ digest, expiresMs: binding.expiresMs }, nowMs())
          return why === undefined ? DONE : failed('unreadable', why)
        },
      })
    },
  }
}

function readSealed(bytes: Uint8Array) {
  try {
    return fromBinary(SealedSecretSchema, bytes)
  } catch {
    return undefined // whatever it is, it is none
  }
}
