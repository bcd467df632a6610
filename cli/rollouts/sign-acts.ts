import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { SignedAct } from '../../shared/operator-order/operator-order.ts'
import type { Cli } from '../cli.ts'
import { type ClusterView, fetchCluster } from '../clusters/find-place.ts'
import { machineOf, openSigner, signAct } from '../clusters/signer.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'

/** The turns of a rollout's hosts come one after the other, and windows are waited for. */
const LIFETIME_MS = 7 * 24 * 60 * 60_000

/** One order for each host of a rollout, signed by the operator: each is about that host's machine alone. */
export async function signForHosts(
  cli: Cli,
  connection: Connection,
  { act, parameter }: { readonly act: SignedAct; readonly parameter: string },
  hosts: readonly { readonly host: string; readonly cluster: string }[],
  keyFile: string | undefined,
): Promise<Record<string, Envelope>> {
  const signer = await openSigner(cli, connection, keyFile)
  const views = new Map<string, ClusterView>()
  const orders: Record<string, Envelope> = {}
  for (const { host, cluster } of hosts) {
    if (cluster === '') throw new CliError('refused', `${host}: belongs to no cluster`)
    const view = views.get(cluster) ?? (await fetchCluster(connection, cluster))
    views.set(cluster, view)
    const told = view.hosts.find(each => each.host === host)?.machine ?? ''
    const machine = machineOf(signer, cluster, host, told)
    if (machine === '') throw new CliError('refused', `${host}: no machine is bound to it`)
    orders[host] = signAct(cli, signer, { act, cluster, node: host, machine, parameter }, LIFETIME_MS)
  }
  return orders
}
