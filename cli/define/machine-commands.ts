import { Argument, type Command, Option } from '@commander-js/extra-typings'
import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import {
  collectLabel,
  collectText,
  numberBetween,
  outputOption,
  parseTime,
  watchOption,
  whereOption,
} from '../option-types.ts'
import { whileRead } from '../output/while-read.ts'

const STATES = ['pending', 'enrolled', 'active', 'rejected', 'evicted', 'banned'] as const
const REF = 'a host, or the start of a machine’s id'

export function defineMachineCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Machines:')

  program
    .command('status')
    .description('Show the whole fleet on one screen: the coordinator, every machine, and what to look at.')
    .addOption(outputOption())
    .addOption(watchOption())
    .addHelpText('after', '\nExample:\n  $ muster status --watch 5\n')
    .action(async options => {
      const { showStatus } = await import('../commands/show-status.ts')
      await showStatus(cli, options)
    })

  const list = async (options: {
    where?: string | undefined
    state?: ('pending' | 'enrolled' | 'active' | 'rejected' | 'evicted' | 'banned')[] | undefined
    output?: 'table' | 'wide' | 'json' | 'yaml' | 'csv' | undefined
    watch?: number | true | undefined
  }) => {
    const { listMachines } = await import('../commands/list-machines.ts')
    await listMachines(cli, options)
  }
  const machines = program
    .command('machines')
    .description('List machines.')
    .addOption(whereOption())
    .addOption(new Option('--state <state...>', 'only machines in these states').choices(STATES))
    .addOption(outputOption())
    .addOption(watchOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster machines --where 'facts.disks.exists(d, d.size > 1000000000000)'
  $ muster machines --where "labels.rack == 'a' && status.online" -o wide
  $ muster machines --state pending enrolled -o json

An expression speaks of machine, host, facts, labels, status, node, cluster and now. A fact that a machine does not have is an error for that
machine, which is told and left out; ask with has(facts.memory.total) first where that may be.
`,
    )
    .action(list)
  machines
    .command('list', { hidden: true })
    .description('List machines.')
    .addOption(whereOption())
    .addOption(new Option('--state <state...>', 'only machines in these states').choices(STATES))
    .addOption(outputOption())
    .addOption(watchOption())
    .action((_, command) => list(command.optsWithGlobals()))

  program
    .command('show')
    .description('Show one machine in full: identity, hardware, operations, events.')
    .argument('<ref>', REF)
    .option('--nix', 'write its hardware as a NixOS module')
    .option('--facts', 'write its facts alone, one on a line')
    .option('--history <n>', 'show how its facts changed, up to 20 sets back', numberBetween(1, 20))
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster show olaf
  $ muster show 4f2a --nix > hosts/olaf-hardware.nix
  $ muster show olaf --facts | grep disks
  $ muster show olaf --history 3
`,
    )
    .action(async (ref, options) => {
      const { showMachine } = await import('../commands/show-machine.ts')
      await showMachine(cli, ref, options)
    })

  program
    .command('pending')
    .description('List the machines that wait for an operator, with what they say they are.')
    .addOption(outputOption())
    .addOption(watchOption())
    .action(async options => {
      const { listPending } = await import('../commands/list-machines.ts')
      await listPending(cli, options)
    })

  program
    .command('approve')
    .description('Let a waiting machine in.')
    .argument('<ref>', REF)
    .option('--host <host>', 'bind it to this host as well')
    .option('--label <key=value>', 'give it a label; may be said several times', collectLabel)
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Compare the fingerprint with the one on the machine’s console first (\`muster pending -o wide\`).

Example:
  $ muster approve 4f2a --host olaf --label rack=a
`,
    )
    .action(async (ref, options) => {
      const { approve } = await import('../commands/decide-machine.ts')
      await approve(cli, ref, options)
    })

  program
    .command('reject')
    .description('Turn a waiting machine away. It may be approved later.')
    .argument('<ref>', REF)
    .option('--why <text>', 'why; kept with the event')
    .addOption(outputOption())
    .action(async (ref, options) => {
      const { reject } = await import('../commands/decide-machine.ts')
      await reject(cli, ref, options)
    })

  program
    .command('evict')
    .description('Take a machine’s identity from it at once. It returns by hand or by a token made later.')
    .argument('<ref>', REF)
    .option('--why <text>', 'why; kept with the event')
    .addOption(outputOption())
    .action(async (ref, options) => {
      const { evict } = await import('../commands/decide-machine.ts')
      await evict(cli, ref, options)
    })

  program
    .command('ban')
    .description('Evict a machine for good: its key never comes back.')
    .argument('<ref>', REF)
    .option('--why <text>', 'why; kept with the event')
    .addOption(outputOption())
    .action(async (ref, options) => {
      const { ban } = await import('../commands/decide-machine.ts')
      await ban(cli, ref, options)
    })

  program
    .command('release')
    .description(
      'Clear a hold (restored disk) or a conflict (clone, collision) after looking at the machine.',
    )
    .argument('<ref>', REF)
    .option('--why <text>', 'what was found; kept with the event')
    .addOption(outputOption())
    .action(async (ref, options) => {
      const { release } = await import('../commands/decide-machine.ts')
      await release(cli, ref, options)
    })

  program
    .command('bind')
    .description('Bind a host of the fleet file to a machine by your word alone (loose).')
    .argument('[host]', 'a host of the fleet file')
    .argument('[machine]', 'the start of a machine’s id')
    .option('--all', 'instead: write the key of every host that is bound, by whatever way, into fleet.toml')
    .option('-d, --directory <dir>', 'with --all: the fleet directory (the one here)')
    .option('--dry-run', 'with --all: only show what would be written')
    .option(
      '--as-before',
      'instead: show which machines say that they acted as a host, and are bound to none',
    )
    .option('--yes', 'with --as-before: bind them to these hosts')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Writing the machine’s serial, disk or key into fleet.toml binds it better: the node checks that itself. With --all the
file keeps its comments and order, and nothing is bound anew; servers of a cluster need their keys there.

With --as-before the word of machines is shown, for a coordinator whose store was lost. A machine that was let in can say any name:
compare the ids with what you know, such as what stands on their consoles, before you say --yes.

Examples:
  $ muster bind olaf 3f2a
  $ muster bind --as-before
  $ muster bind --all -d home --dry-run
`,
    )
    .action(async (host, machine, options) => {
      if (options.asBefore) {
        if (options.all || host !== undefined || options.directory !== undefined || options.dryRun) {
          throw new CliError('usage', 'bind: --as-before goes with --yes alone')
        }
        const { bindAsBefore } = await import('../commands/bind-as-before.ts')
        return bindAsBefore(cli, options)
      }
      if (options.yes) throw new CliError('usage', 'bind: --yes is for --as-before')
      if (options.all) {
        if (host !== undefined) throw new CliError('usage', 'bind: say --all, or a host and its machine')
        const { bindAll } = await import('../commands/bind-all.ts')
        return bindAll(cli, options)
      }
      if (options.directory !== undefined || options.dryRun) {
        throw new CliError('usage', 'bind: --directory and --dry-run are for --all')
      }
      if (host === undefined || machine === undefined) {
        throw new CliError('usage', 'bind: say a host and its machine, --all, or --as-before')
      }
      const { bind } = await import('../commands/decide-machine.ts')
      await bind(cli, host, machine, options)
    })

  program
    .command('unbind')
    .description('Take a host from the machine it was bound to by hand.')
    .argument('<host>', 'a host of the fleet file')
    .addOption(outputOption())
    .action(async (host, options) => {
      const { unbind } = await import('../commands/decide-machine.ts')
      await unbind(cli, host, options)
    })

  program
    .command('query')
    .description('Ask a question of every machine: over what is stored, or of each node now.')
    .argument('<expr>', 'a CEL expression that is true for the machines wanted')
    .option(
      '--select <expr>',
      'also tell its value, count(), sum(X), min(X) or max(X) of groups; several times',
      collectText,
    )
    .option('--group-by <expr>', 'one row for all machines that have the same value', collectText)
    .option('--sort <expr>', 'sort by it; -EXPR: the greatest first; several times', collectText)
    .option('--limit <n>', 'only so many rows', numberBetween(1, 1_000_000))
    .option('--live', 'ask the nodes themselves instead of the store')
    .option('--deadline <time>', 'with --live: how long to wait, 1s to 60s (10s)', parseTime)
    .option(
      '--probe <what>',
      'ask each node now: units[=NAME], disks[=PATH], ports, journal=UNIT',
      collectText,
    )
    .option('--lines <n>', 'with --probe journal: how many lines of each node (50)', numberBetween(1, 500))
    .option('--since <time>', 'with --probe journal: only lines that are no older, such as 1h', parseTime)
    .option('--stream', 'with --live: each answer as it comes, one JSON object a line')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
An expression speaks of facts, machine, host, labels, status, node, cluster, live and now: docs/reference/query.md tells what
each has. What is not known is neither true nor false: such machines are counted and named, and left out.

Examples:
  $ muster query 'facts.nixos.rebootReasons.size() > 0' --select facts.os.kernel
  $ muster query true --group-by facts.system.product --select 'count()' --select 'sum(facts.memory.total)'
  $ muster query 'status.certificateEnds < now + duration("168h")' --sort status.certificateEnds
  $ muster query 'node.failedUnits.size() > 0' --select node.failedUnits
  $ muster query true --live --deadline 5s --select facts.os.bootId
  $ muster query "labels.rack == 'a'" --probe journal=k3s --lines 20
  $ muster query 'live.disks.exists(d, d.free * 10 < d.size)' --probe disks
`,
    )
    .action(async (expression, options) => {
      const { runQuery } = await import('../commands/run-query.ts')
      await runQuery(cli, expression, options)
    })

  program
    .command('history')
    .description('Show what changed in a machine’s hardware, and when, newest first.')
    .argument('<ref>', REF)
    .option('--all', 'changes of the system, its addresses and names of the kernel too')
    .option('--limit <n>', 'how many at most (100)', numberBetween(1, 1000))
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Sets of facts are kept as they come and compared with the one before. A disk that the kernel names anew is the same disk.

Examples:
  $ muster history olaf
  $ muster history olaf --all -o json
`,
    )
    .action(async (ref, options) => {
      const { showHistory } = await import('../commands/show-history.ts')
      await showHistory(cli, ref, options)
    })

  program
    .command('drift')
    .description('Show which machines are not what they should be, who made them so, and what puts it right.')
    .argument('[hosts...]', 'hosts, or the starts of machines’ ids; all active machines without any')
    .addOption(whereOption())
    .option('--all', 'show those that are as they should be, too')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Compared are what was booted, what runs, what the next boot starts, and what the newest change of ours reached; all as the
machine told it last (column TOLD). Told apart are operations of ours, a rebuild, a rollback or a test by hand, and a boot of
something else than the default.

Examples:
  $ muster drift
  $ muster drift olaf -o json
  $ muster drift --all --where "labels.rack == 'a'" -o wide
`,
    )
    .action(async (hosts, options) => {
      const { showDrift } = await import('../commands/show-drift.ts')
      await showDrift(cli, hosts, options)
    })

  program
    .command('health')
    .description(
      'Show what always has to be true of the fleet and is not; ends with 1 when there is anything.',
    )
    .addOption(outputOption())
    .action(async options => {
      const { showHealth } = await import('../commands/show-health.ts')
      await showHealth(cli, options)
    })

  const audit = program
    .command('audit')
    .description('The record of who did what: every event holds the hash of the one before it.')
  audit
    .command('verify')
    .description('Recompute the record here, and compare it with what every machine was shown of it.')
    .option('--deadline <time>', 'how long machines are waited for, 1s to 60s (10s)', parseTime)
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Machines keep how far the record went when they were shown it last, and sign what they answer. A record that somebody cut,
or changed and hashed anew, disagrees with them. The coordinator’s own word is not taken for anything.

Examples:
  $ muster audit verify
  $ muster audit verify -o json --deadline 30s
`,
    )
    .action(async options => {
      const { verifyAudit } = await import('../commands/verify-audit.ts')
      await verifyAudit(cli, options)
    })
  audit
    .command('show')
    .description('Show the record as data, with its hashes; the same as `muster events -o json`.')
    .addArgument(new Argument('[ref]', `only of this machine: ${REF}`))
    .option('--limit <n>', 'how many at most (100)', numberBetween(1, 1000))
    .action(async (ref, options) => {
      const { listEvents } = await import('../commands/list-events.ts')
      await listEvents(cli, ref, { ...options, output: 'json' })
    })

  program
    .command('events')
    .description('Show what happened, oldest first.')
    .addArgument(new Argument('[ref]', `only of this machine: ${REF}`))
    .option('-f, --follow', 'go on with what happens; with -o json one object a line')
    .option('--limit <n>', 'how many at most (100)', numberBetween(1, 1000))
    .addOption(outputOption())
    .action(async (ref, options) => {
      const { listEvents } = await import('../commands/list-events.ts')
      await whileRead(cli, reading => listEvents(reading, ref, options))
    })
}
