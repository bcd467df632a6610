import { keyId } from '../../../shared/x509/key-id.ts'
import type { EtcdMember } from '../etcd/member.ts'
import type { OtherServer, RotationView } from './decide-rotation.ts'
import type { TokenOffer } from './token-offer.ts'
import { isOver, type TokenPair } from './token-pair.ts'

/** Another member of the datastore, and what of it is in the offer. */
export interface SeenServer extends OtherServer {
  /** By the signed manifest; "": it names none. */
  readonly machine: string
  /** Why it can be given nothing; undefined: it can. */
  readonly unfit: string | undefined
}

/** `servers`: machines by the names of their nodes, by the signed manifest. */
export function seeOthers(
  members: readonly EtcdMember[],
  servers: ReadonlyMap<string, string>,
  own: string,
  pair: TokenPair | undefined,
  offer: TokenOffer | undefined,
): readonly SeenServer[] {
  return members.flatMap(member => {
    const node = nodeOf(member)
    if (node === own) return []
    const machine = servers.get(node)
    const unfit = whyUnfit(member, node, machine)
    return [{ ...otherServer(node, machine, pair, offer), machine: machine ?? '', unfit }]
  })
}

/** k3s puts eight digits behind the name of its node; "": the member was added and has not started. */
export const nodeOf = ({ name }: EtcdMember): string => name.replace(/-[0-9a-f]{8}$/, '')

/** What an offer is to the server that keeps this pair. */
export function stateOf(
  offer: TokenOffer | undefined,
  pair: TokenPair | undefined,
  nowMs: number,
): Exclude<RotationView['offer'], undefined> {
  if (!offer) return 'none'
  if (offer.id === pair?.id) return offer.cancelled ? 'cancelled' : 'ours'
  return offer.cancelled || isOver(offer.untilMs, nowMs) ? 'over' : 'live'
}

function whyUnfit(member: EtcdMember, node: string, machine: string | undefined): string | undefined {
  if (member.name === '' || member.learner)
    return `${node === '' ? `a member at ${member.peerUrls.join(', ')}` : node} is joining`
  return machine === undefined
    ? `${node} is a member of the datastore that the signed manifest names as no server with a key (muster bind --all, publish; or muster leave)`
    : undefined
}

function otherServer(
  node: string,
  machine: string | undefined,
  pair: TokenPair | undefined,
  offer: TokenOffer | undefined,
): OtherServer {
  if (machine === undefined || !pair || offer?.id !== pair.id)
    return { node, shown: false, sealed: false, kept: false, taken: false }
  const key = offer.said('key', machine)
  const taken = offer.said('taken', machine) === pair.id
  return {
    node,
    shown: key !== undefined && keyId(Buffer.from(key, 'base64')) === machine,
    sealed: offer.sealedFor(machine) !== undefined,
    kept: taken || offer.said('kept', machine) === pair.id,
    taken,
  }
}
