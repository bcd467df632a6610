import { escapeText } from '../../shared/escape.ts'
import { ClusterService } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { Cli } from '../cli.ts'
import { reasonsApart, runAct } from '../clusters/run-act.ts'
import { type ActOptions, showAct } from '../clusters/show-act.ts'
import { withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { clusterListing } from '../output/cluster-listing.ts'
import type { Format } from '../output/format.ts'
import { showOne } from '../output/show-list.ts'
import { renderFields } from '../output/table.ts'

/** Takes a running cluster in as it is. */
export async function adoptCluster(
  cli: Cli,
  name: string,
  { dryRun = false, output }: { readonly dryRun?: boolean | undefined; readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const service = connection.service(ClusterService)
    const answer = await service.adoptCluster({ name, dryRun }, connection.call).catch((error: unknown) => {
      throw reasonsApart(error)
    })
    const { summary, hosts, warnings } = answer
    if (!summary) throw new CliError('error', `the coordinator told nothing of cluster ${name}`)
    const record = { ...clusterListing.record(summary), hosts, warnings, dryRun }
    for (const warning of warnings) cli.io.err(`warning: ${escapeText(warning)}\n`)
    await showOne(
      cli.io,
      record,
      output,
      () =>
        renderFields(
          [
            [dryRun ? 'would adopt' : 'adopted', summary.name],
            ['distribution', summary.distribution],
            ['authority', summary.authority],
            ['first server', summary.firstServer],
            ['hosts', hosts.join(', ')],
          ],
          cli.io.colour,
        ) +
        (dryRun
          ? `\nNothing was restarted, and nothing written. \`muster cluster adopt ${escapeText(name)}\` does it.\n`
          : `\nNothing was restarted. Each host writes down what a reboot needs; \`muster cluster show ${escapeText(name)}\` tells which have.\n`),
    )
  })
}

/** Brings the manifests of the newest revision to the cluster now. */
export async function applyManifests(
  cli: Cli,
  cluster: string,
  {
    allowEmpty = false,
    timeout,
    output,
  }: Omit<ActOptions, 'wait'> & { readonly allowEmpty?: boolean | undefined },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    await showAct(
      cli,
      await runAct(cli, connection, { act: 'manifests', cluster, allowEmpty }, timeout),
      output,
    )
  })
}
