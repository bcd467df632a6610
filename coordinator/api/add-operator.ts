import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../shared/clock.ts'
import type {
  AddOperatorRequest,
  AddOperatorResponseSchema,
} from '../../shared/gen/muster/v1/operator_account_pb.ts'
import { isHostName } from '../../shared/revision/host-name.ts'
import { exists, invalid, precondition } from '../../shared/rpc/rpc-error.ts'
import { msFromDuration } from '../../shared/time.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { readRsaPublicKey } from '../../shared/x509/public-key.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { OperatorBook } from '../machines/operator-book.ts'
import { recordEvent } from '../store/events.ts'
import { findMachine } from '../store/machines.ts'
import { findOperator, findOperatorByKey, putOperator } from '../store/operators.ts'
import type { Store } from '../store/store.ts'
import { actorOf, type Caller } from './caller.ts'

export interface AddOperatorDeps {
  readonly store: Store
  readonly operators: OperatorBook
  readonly authorities: Pick<Authorities, 'issueOperator' | 'list'>
  readonly clock: Clock
  readonly fleetAddress: () => string
}

const DEFAULT_LIFETIME_MS = 90 * 86_400_000
const MAX_LIFETIME_MS = 366 * 86_400_000
/** Names that stand for something else in records. */
const RESERVED: readonly string[] = ['local', 'coordinator', 'stranger']

/** Certifies an operator's key. The same name with the same key gets a new certificate. */
export function addOperator({ store, operators, authorities, clock, fleetAddress }: AddOperatorDeps) {
  return async (
    { name, publicKey, lifetime }: AddOperatorRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof AddOperatorResponseSchema>> => {
    if (!isHostName(name) || RESERVED.includes(name)) {
      throw invalid(`name: lower-case letters, digits and dashes, at most 63; not ${RESERVED.join(', ')}`)
    }
    const key = readRsaPublicKey(publicKey)
    if (!key.ok) throw invalid(`public_key: ${key.reason}`)
    const lifetimeMs = lifetime ? msFromDuration(lifetime) : DEFAULT_LIFETIME_MS
    if (!(lifetimeMs >= 1_000 && lifetimeMs <= MAX_LIFETIME_MS)) {
      throw invalid('lifetime: at least a second and at most 366 days')
    }
    const id = keyId(publicKey)
    const now = clock.now()
    const { row, certificate } = await store.transact(async tx => {
      const before = await findOperator(tx, name)
      if (before && before.removed === 0 && before.id !== id) {
        throw exists(`name: ${name} has another key; remove that operator first`)
      }
      const holder = await findOperatorByKey(tx, id)
      if (holder && holder.name !== name) throw exists(`public_key: is that of operator ${holder.name}`)
      if (holder && holder.removed === 1) {
        throw precondition('public_key: was removed; an operator comes back with a new key')
      }
      if (await findMachine(tx, id)) throw invalid('public_key: is that of a machine')
      const issued = authorities.issueOperator(publicKey, name, lifetimeMs)
      if (!issued.ok) throw precondition(`no certificate could be made: ${issued.reason}`)
      const row = {
        name,
        id,
        created: before?.id === id ? before.created : now.getTime(),
        not_after: issued.certificate.notAfter.getTime(),
        issuer: issued.issuer,
        removed: 0,
      }
      await putOperator(tx, row)
      const reason = `operator ${name}, key ${id}`
      await recordEvent(tx, { at: now, class: 'operator-added', reason, actor: actorOf(caller) })
      return { row, certificate: issued.certificate }
    })
    operators.put(row)
    return {
      chainPem: certificate.chainPem,
      authorityPem: authorities
        .list()
        .map(({ certificatePem }) => certificatePem)
        .join(''),
      notAfter: timestampFromDate(certificate.notAfter),
      fleetAddress: fleetAddress(),
    }
  }
}
