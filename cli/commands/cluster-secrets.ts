import { escapeText } from '../../shared/escape.ts'
import type { ClusterAct, ClusterHost } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Cli } from '../cli.ts'
import { exitForAct, isDone } from '../clusters/act-state.ts'
import { type ClusterView, fetchCluster } from '../clusters/find-place.ts'
import { gather, hostsToAsk } from '../clusters/gather.ts'
import { reportSilent } from '../clusters/report-silent.ts'
import { runAct } from '../clusters/run-act.ts'
import { type ActOptions, failureText } from '../clusters/show-act.ts'
import { machineOf, openSigner, signAct } from '../clusters/signer.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { actListing } from '../output/act-listing.ts'
import { certificateListing, isServerRole } from '../output/cluster-listing.ts'
import { showList } from '../output/show-list.ts'

type Options = Omit<ActOptions, 'wait'> & { readonly on?: string | undefined }

/** When the certificates on a cluster's hosts end. */
export async function listCertificates(cli: Cli, cluster: string, options: Options): Promise<void> {
  await withCoordinator(cli, async connection => {
    const hosts = hostsToAsk(await fetchCluster(connection, cluster), options.on, false)
    const gathered = await gather(cli, connection, cluster, 'certificates', hosts, options.timeout)
    const rows = gathered.flatMap(each => {
      const value = 'act' in each ? each.act.result?.value : undefined
      return value?.case === 'certificates'
        ? value.value.certificates.map(certificate => ({ host: each.host, certificate }))
        : []
    })
    await showList(cli.io, rows, certificateListing(cli.clock.now()), options.output)
    reportSilent(cli, gathered)
  })
}

export const ROTATED = ['tokens', 'certificates'] as const

/**
 * Makes tokens, certificates, or both anew, by orders that the operator signs: certificates host by host, servers first.
 * The first that fails is the last.
 */
export async function rotateSecrets(
  cli: Cli,
  cluster: string,
  what: (typeof ROTATED)[number] | undefined,
  { on, timeout, output, key }: Options & { readonly key?: string | undefined },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const view = await fetchCluster(connection, cluster)
    const signer = await openSigner(cli, connection, key)
    const ended: ClusterAct[] = []
    for (const parameter of what === undefined ? ROTATED : [what]) {
      const order = { act: 'rotate', cluster, parameter } as const
      const hosts = parameter === 'tokens' ? [{ host: on ?? '', machine: '' }] : inOrder(view, on)
      for (const { host, machine: told } of hosts) {
        // Which server makes tokens anew is one to the cluster; certificates are those of one machine.
        const about =
          parameter === 'tokens' ? {} : { node: host, machine: machineOf(signer, cluster, host, told) }
        const signedOrder = signAct(cli, signer, { ...order, ...about })
        const act = await runAct(cli, connection, { ...order, host, signedOrder }, timeout)
        ended.push(act)
        if (isDone(act)) continue
        // What a distribution does by itself on a worker is nothing to stop at.
        if (parameter === 'certificates' && act.result?.class === 'unsupported') {
          cli.io.err(`${host} is passed over: ${escapeText(act.result.reason)}\n`)
          continue
        }
        await showList(cli.io, ended, actListing(cli.clock.now()), output)
        throw new CliError(exitForAct(act), `${failureText(act)}\nNo further host was touched.`)
      }
    }
    await showList(cli.io, ended, actListing(cli.clock.now()), output)
    if (!ended.some(isDone)) throw new CliError('refused', '')
  })
}

function inOrder(view: ClusterView, on: string | undefined): readonly ClusterHost[] {
  return hostsToAsk(view, on, false).toSorted(
    (a, b) => Number(isServerRole(b.role)) - Number(isServerRole(a.role)),
  )
}
