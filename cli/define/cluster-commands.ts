import { Argument, type Command, Option } from '@commander-js/extra-typings'
import type { Cli } from '../cli.ts'
import {
  noWaitOption,
  outputOption,
  parseTime,
  signingKeyOption,
  timeoutOption,
  watchOption,
} from '../option-types.ts'

const CLUSTER = 'a cluster of the fleet file'
const HOST = 'a host, or the start of its machine’s id'
const DRAIN_LIMIT_MS = 600_000
/** A server that is connected answers a question within seconds. */
const ASK_TIMEOUT_MS = 120_000

function onOption(what: string) {
  return new Option('--on <host>', what)
}

function askTimeoutOption() {
  return new Option('--timeout <time>', 'how long an answer is waited for')
    .argParser(parseTime)
    .default(ASK_TIMEOUT_MS, '2m')
}

function limitOption() {
  return new Option('--limit <time>', 'how long pods are waited for, to 24h')
    .argParser(parseTime)
    .default(DRAIN_LIMIT_MS, '10m')
}

function clusterOption() {
  return new Option(
    '--cluster <name>',
    'of a host that was taken out of fleet.toml: the cluster its node is in',
  )
}

const EMPTY_DIR = 'evict pods with emptyDir volumes, too: what is in those is lost'
const UNMANAGED = 'evict pods that no controller would make again, too'

const EXITS = `
Ends with 0 when it was done, 4 when it was refused and nothing was touched, 5 when the time was over, 6 when it failed, 7
when some hosts did it and others did not; docs/exit-codes.md tells all.
`
const SIGNED = `
The order is signed with your signing key, and the node verifies it: the coordinator alone cannot give it.
`

export function defineClusterCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Clusters:')
  program
    .command('clusters')
    .description('List the clusters: where each stands, its servers, how many hosts have joined.')
    .addOption(outputOption())
    .addOption(watchOption())
    .action(async options => {
      const { listClusters } = await import('../commands/list-clusters.ts')
      await listClusters(cli, options)
    })

  const cluster = program
    .command('cluster')
    .description('Look at one Kubernetes cluster and act on it.')
    .helpCommand(false)
  defineStanding(cluster, cli)
  defineSnapshots(cluster, cli)
  defineSecrets(cluster, cli)
  defineNodes(program, cli)
  defineFarewell(program, cli)
}

function defineStanding(cluster: Command, cli: Cli): void {
  cluster
    .command('show')
    .description('Show one cluster: its hosts, what each waits for, and what was asked of it.')
    .argument('<cluster>', CLUSTER)
    .addOption(outputOption())
    .addOption(watchOption())
    .action(async (name, options) => {
      const { showCluster } = await import('../commands/list-clusters.ts')
      await showCluster(cli, name, options)
    })

  cluster
    .command('adopt')
    .description('Take a running cluster in as it is: nothing is restarted, founded or joined.')
    .argument('<cluster>', CLUSTER)
    .option('--dry-run', 'tell what would be adopted, and write nothing')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Its hosts must be in fleet.toml and bound, and its servers connected. Everything that does not fit together is named at once.
Until it is adopted, a host with data of a cluster is never founded, joined, restarted or wiped.

Example:
  $ muster cluster adopt home --dry-run
`,
    )
    .action(async (name, options) => {
      const { adoptCluster } = await import('../commands/adopt-cluster.ts')
      await adoptCluster(cli, name, options)
    })

  cluster
    .command('upgrade')
    .description('Move a cluster to the version of the newest revision: servers one at a time, then workers.')
    .argument('<cluster>', CLUSTER)
    .argument('<version>', 'such as 1.35.4, as fleet.toml says it by then')
    .option('--dry-run', 'show the order and what would hold it, and move nothing')
    .option('-d, --directory <dir>', 'the fleet directory, to tell which line says another version (.)')
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Write the version into fleet.toml and publish first. Where Kubernetes lives apart it moves alone; with life = "with-system" the
systems of the cluster's hosts move to the revision. It is a rollout, with its gates; asked again, what is under way is followed.

Example:
  $ muster publish && muster cluster upgrade home 1.35.4 --dry-run
${EXITS}`,
    )
    .action(async (name, version, options) => {
      const { upgradeCluster } = await import('../commands/upgrade-cluster.ts')
      await upgradeCluster(cli, name, version, options)
    })

  cluster
    .command('manifests')
    .description(
      'Bring the manifests of the newest revision to a cluster now, and prune what is gone from them.',
    )
    .argument('<cluster>', CLUSTER)
    .option('--allow-empty', 'an empty set of manifests is meant, and everything of it is pruned')
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText('after', '\nAfter a publication the coordinator does this by itself.\n')
    .action(async (name, options) => {
      const { applyManifests } = await import('../commands/adopt-cluster.ts')
      await applyManifests(cli, name, options)
    })
}

function defineSnapshots(cluster: Command, cli: Cli): void {
  cluster
    .command('snapshot')
    .description('Copy the datastore into a folder for root alone on one of the servers.')
    .argument('<cluster>', CLUSTER)
    .option(
      '--name <name>',
      'its name: lower-case letters, digits, hyphens and dots; made up where nothing is said',
    )
    .addOption(onOption('this server; else one is chosen'))
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action(async (name, options) => {
      const { takeSnapshot } = await import('../commands/cluster-snapshots.ts')
      await takeSnapshot(cli, name, options)
    })

  cluster
    .command('snapshots')
    .description('List the copies of the datastore on the servers.')
    .argument('<cluster>', CLUSTER)
    .addOption(onOption('of this server alone'))
    .addOption(askTimeoutOption())
    .addOption(outputOption())
    .action(async (name, options) => {
      const { listSnapshots } = await import('../commands/cluster-snapshots.ts')
      await listSnapshots(cli, name, options)
    })

  cluster
    .command('restore')
    .description('Go back to a copy of the datastore: its server becomes the only one, the others join anew.')
    .argument('<cluster>', CLUSTER)
    .argument('<snapshot>', 'its name, as `muster cluster snapshots` lists it')
    .addOption(
      onOption(
        'the server it lies on, where several have one of that name; also one that was installed anew',
      ),
    )
    .option('--yes', 'do it: what was changed in Kubernetes since then is lost')
    .addOption(signingKeyOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText('after', `${SIGNED}${EXITS}`)
    .action(async (name, snapshot, options) => {
      const { restoreSnapshot } = await import('../commands/cluster-snapshots.ts')
      await restoreSnapshot(cli, name, snapshot, options)
    })
}

function defineSecrets(cluster: Command, cli: Cli): void {
  cluster
    .command('kubeconfig')
    .description('Fetch an administrator’s kubeconfig, sealed by a server to your own key.')
    .argument('<cluster>', CLUSTER)
    .option('--out <file>', 'write it there, for you alone (0600); it is never merged into another')
    .option('--force', 'with --out: replace the file that is there')
    .option(
      '--server <host:port>',
      'the address that stands in it; else the cluster’s endpoint, or that of its server',
    )
    .addOption(onOption('the server that makes it; else one is chosen'))
    .addOption(signingKeyOption())
    .addOption(askTimeoutOption())
    .addHelpText(
      'after',
      `${SIGNED}
It is sealed to the key of the operator profile in use (at the coordinator's socket to one made for this call), and believed
only from a machine that the signed revision names as a server. One that names programs or files is refused.

Example:
  $ muster cluster kubeconfig home --out home.kubeconfig && KUBECONFIG=home.kubeconfig kubectl get nodes
`,
    )
    .action(async (name, options) => {
      const { fetchKubeconfig } = await import('../commands/fetch-kubeconfig.ts')
      await fetchKubeconfig(cli, name, options)
    })

  cluster
    .command('rotate')
    .description(
      'Make the tokens or the certificates of a cluster anew: certificates host by host, servers first.',
    )
    .argument('<cluster>', CLUSTER)
    .addArgument(
      new Argument('[what]', 'what is made anew; where nothing is said both').choices([
        'tokens',
        'certificates',
      ] as const),
    )
    .addOption(onOption('on this host alone; with tokens: by this server'))
    .addOption(signingKeyOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText('after', `${SIGNED}${EXITS}`)
    .action(async (name, what, options) => {
      const { rotateSecrets } = await import('../commands/cluster-secrets.ts')
      await rotateSecrets(cli, name, what, options)
    })

  cluster
    .command('certificates')
    .description('Tell when the certificates on a cluster’s hosts end.')
    .argument('<cluster>', CLUSTER)
    .addOption(onOption('of this host alone'))
    .addOption(askTimeoutOption())
    .addOption(outputOption())
    .action(async (name, options) => {
      const { listCertificates } = await import('../commands/cluster-secrets.ts')
      await listCertificates(cli, name, options)
    })
}

function defineNodes(program: Command, cli: Cli): void {
  program
    .command('cordon')
    .description('Let no new pods onto a host’s node.')
    .argument('<host>', HOST)
    .addOption(noWaitOption())
    .addOption(clusterOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action(async (host, options) => {
      const { cordon } = await import('../commands/drain-host.ts')
      await cordon(cli, host, options)
    })

  program
    .command('drain')
    .description('Cordon a host’s node and move its pods off, as their disruption budgets allow.')
    .argument('<host>', HOST)
    .addOption(limitOption())
    .option('--delete-emptydir-data', EMPTY_DIR)
    .option('--delete-unmanaged', UNMANAGED)
    .addOption(noWaitOption())
    .addOption(clusterOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `\nPods that are in the way are named. The cordon stays until \`muster uncordon\`.\n${EXITS}`,
    )
    .action(async (host, options) => {
      const { drain } = await import('../commands/drain-host.ts')
      await drain(cli, host, options)
    })

  program
    .command('uncordon')
    .description('Let pods onto a host’s node again; only a cordon that Muster set is lifted.')
    .argument('<host>', HOST)
    .addOption(noWaitOption())
    .addOption(clusterOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action(async (host, options) => {
      const { uncordon } = await import('../commands/drain-host.ts')
      await uncordon(cli, host, options)
    })
}

function defineFarewell(program: Command, cli: Cli): void {
  program
    .command('leave')
    .description('Make a host leave its cluster: it waits for its turn, and for quorum without it.')
    .argument('<host>', HOST)
    .option(
      '--dead',
      'its machine is gone for good, or has lost its datastore: a server that is left takes it out',
    )
    .addOption(signingKeyOption())
    .addOption(noWaitOption())
    .addOption(clusterOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `${SIGNED}
Its pods are not moved first: that is \`muster drain\`. It stays out until \`muster rejoin\`.
${EXITS}`,
    )
    .action(async (host, options) => {
      const { leave } = await import('../commands/drain-host.ts')
      await leave(cli, host, options)
    })

  program
    .command('rejoin')
    .description(
      'Let a host that left its cluster come back: it joins again by itself. One whose join failed is tried again at once.',
    )
    .argument('<host>', HOST)
    .option(
      '--wipe',
      'first take what is left of the cluster off its disk; copies of the datastore stay. For one that lost its datastore, or has what there was before a restore',
    )
    .addOption(signingKeyOption())
    .addOption(noWaitOption())
    .addOption(clusterOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action(async (host, options) => {
      const { rejoin } = await import('../commands/drain-host.ts')
      await rejoin(cli, host, options)
    })

  program
    .command('remove')
    .description('Bid a host farewell: drain, leave, delete its node, take its identity from it.')
    .argument('<host>', HOST)
    .option('--dead', 'its machine is gone for good: a server that is left takes it out')
    .option(
      '--wipe',
      'take what is left of the cluster off its disk, copies of the datastore too, before its identity is gone',
    )
    .option('--yes', 'with --wipe: copies of the datastore that lie on it alone may be lost')
    .option('--no-drain', 'do not move its pods off first')
    .addOption(limitOption())
    .option('--delete-emptydir-data', EMPTY_DIR)
    .option('--delete-unmanaged', UNMANAGED)
    .addOption(signingKeyOption())
    .addOption(clusterOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
What is done is seen, not remembered: cut off at any point, say it again and it goes on.
${SIGNED}
Examples:
  $ muster remove olaf --wipe
  $ muster remove olaf --dead
${EXITS}`,
    )
    .action(async (host, options) => {
      const { removeHost } = await import('../commands/remove-host.ts')
      await removeHost(cli, host, options)
    })
}
