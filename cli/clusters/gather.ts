import { reasonOf } from '../../shared/errors.ts'
import type { ClusterAct, ClusterHost } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { isServerRole } from '../output/cluster-listing.ts'
import type { ClusterView } from './find-place.ts'
import { runAct } from './run-act.ts'

/** What one host answered; a reason where it gave no answer. */
export type Gathered =
  | { readonly host: string; readonly act: ClusterAct }
  | { readonly host: string; readonly refused: CliError }

/** So many hosts are asked at once. */
const AT_ONCE = 16

/** Hosts that can be asked: one, or all that have joined; with `servers` those alone that hold the datastore. */
export function hostsToAsk(
  { summary, hosts }: ClusterView,
  on: string | undefined,
  servers: boolean,
): readonly ClusterHost[] {
  if (on !== undefined) {
    const one = hosts.find(({ host }) => host === on)
    if (one) return [one]
    throw new CliError(
      'notFound',
      `${on}: is no host of cluster ${summary.name}; \`muster cluster show ${summary.name}\` lists them`,
    )
  }
  const found = hosts.filter(({ joined, role }) => joined && (!servers || isServerRole(role)))
  if (found.length > 0) return found
  throw new CliError(
    'refused',
    `cluster ${summary.name}: no ${servers ? 'server' : 'host'} of it has joined yet`,
  )
}

/** Asks the same of several hosts; one that would not, or did not answer in time, keeps none of the others. */
export async function gather(
  cli: Cli,
  connection: Connection,
  cluster: string,
  act: string,
  hosts: readonly ClusterHost[],
  timeoutMs: number,
): Promise<readonly Gathered[]> {
  const waiting = hosts.map(({ host }) => host)
  const found = new Map<string, Gathered>()
  const ask = async () => {
    for (let host = waiting.shift(); host !== undefined; host = waiting.shift()) {
      try {
        found.set(host, { host, act: await runAct(cli, connection, { act, cluster, host }, timeoutMs) })
      } catch (error) {
        if (cli.signal.aborted || !(error instanceof CliError || error instanceof RpcError)) throw error
        const refused = error instanceof CliError ? error : new CliError('error', reasonOf(error))
        found.set(host, { host, refused })
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, waiting.length) }, ask))
  return hosts.flatMap(({ host }) => found.get(host) ?? [])
}
