import type { SigningKeyPair } from '../../shared/envelope/keys.ts'
import { escapeText } from '../../shared/escape.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { randomId } from '../../shared/ids.ts'
import type { OperatorOrder } from '../../shared/operator-order/operator-order.ts'
import { signOperatorOrder } from '../../shared/operator-order/sign-operator-order.ts'
import type { KnownCluster } from '../../shared/revision/clusters.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { decideSuccession } from '../fleets/decide-succession.ts'
import { type FleetKnowledge, loadKeys } from '../fleets/fleet-folder.ts'
import { fetchRevision, readLastSeen } from '../fleets/known-revision.ts'
import { openFleet } from '../fleets/open-fleet.ts'

const HOUR_MS = 3_600_000
/** A leave waits for its turn, and for a machine that is away; anything else is done at once or not at all. */
const LIFETIMES_MS = {
  leave: 7 * 24 * HOUR_MS,
  wipe: 24 * HOUR_MS,
  restore: HOUR_MS,
  rotate: HOUR_MS,
  kubeconfig: HOUR_MS,
}

/** Who signs orders, and what the newest revision says of clusters by this operator's own check. */
export interface Signer {
  readonly fleet: FleetKnowledge
  readonly key: SigningKeyPair
  readonly clusters: ReadonlyMap<string, KnownCluster>
}

export async function openSigner(
  cli: Cli,
  connection: Connection,
  keyFile: string | undefined,
): Promise<Signer> {
  const fleet = await openFleet(cli, connection)
  const [key] = await loadKeys(fleet, keyFile === undefined ? undefined : [keyFile])
  if (!key || !fleet.trust.keys.some(({ keyId }) => keyId === key.keyId)) {
    throw new CliError(
      'refused',
      `key ${key?.keyId.slice(0, 12) ?? ''}: is no signing key of trust set ${fleet.trust.number}, so no node would obey it; ` +
        'say --key FILE with one that `muster trust show` lists',
    )
  }
  const newest = await fetchRevision(connection, fleet, 0)
  const lastSeen = await readLastSeen(fleet)
  // By an older revision a server that was thrown out could still be one.
  const verdict = decideSuccession({
    newest: newest?.manifest,
    lastSeen: lastSeen?.manifest,
    acceptOlder: false,
  })
  if (verdict.kind === 'refused') throw new CliError('refused', verdict.reason)
  return { fleet, key, clusters: (newest ?? lastSeen)?.manifest.clusters ?? new Map() }
}

type Asked = Pick<OperatorOrder, 'cluster' | 'act'> &
  Partial<Pick<OperatorOrder, 'node' | 'machine' | 'dead' | 'parameter' | 'recipientKey'>>

/** Signs one act. The node obeys it once. */
export function signAct(
  cli: Pick<Cli, 'clock'>,
  { fleet, key }: Signer,
  asked: Asked,
  lifetimeMs: number = LIFETIMES_MS[asked.act],
): Envelope {
  const createdMs = cli.clock.now().getTime()
  return signOperatorOrder(
    {
      id: randomId(),
      fleetId: fleet.fleetId,
      node: '',
      machine: '',
      dead: false,
      parameter: '',
      recipientKey: new Uint8Array(),
      ...asked,
      createdMs,
      expiresMs: createdMs + lifetimeMs,
    },
    key,
  )
}

/**
 * Which machine a host is: as the signed manifest says, and only where that names none as the coordinator does. A
 * coordinator that says otherwise could have an order signed about another machine.
 */
export function machineOf(
  { clusters }: Pick<Signer, 'clusters'>,
  cluster: string,
  host: string,
  told: string,
): string {
  const signed = clusters.get(cluster)?.members.find(member => member.host === host)?.machine
  if (signed !== undefined && told !== '' && told !== signed) {
    throw new CliError(
      'refused',
      `${host}: the coordinator has machine ${escapeText(told.slice(0, 12))} there, the newest revision names ${signed.slice(0, 12)}; ` +
        'if it was replaced: `muster bind --all`, publish, and ask again',
    )
  }
  return signed ?? told
}
