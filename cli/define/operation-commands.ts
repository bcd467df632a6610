import { type Command, Option } from '@commander-js/extra-typings'
import type { Cli } from '../cli.ts'
import {
  noWaitOption,
  numberBetween,
  outputOption,
  timeoutOption,
  watchOption,
  whereOption,
} from '../option-types.ts'
import { whileRead } from '../output/while-read.ts'
import { revisionNumber } from '../revision-number.ts'

const HOST = 'a host, or the start of a machine’s id'
const HOSTS = 'hosts, or the starts of machines’ ids'

function revisionOption() {
  return new Option('--revision <revision>', 'this revision instead of the newest').argParser(revisionNumber)
}

const EXITS = `
Ends with 0 when every node succeeded, 4 when all refused, 6 when all failed, 7 when some did, 9 degraded, 10 reboot
required, 11 unknown; docs/exit-codes.md tells all.
`

export function defineOperationCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Operations:')
  defineChanges(program, cli)
  defineObedience(program, cli)
  defineRecords(program, cli)
}

/** What changes the system that a host runs, and what is looked at before. */
function defineChanges(program: Command, cli: Cli): void {
  program
    .command('plan')
    .description('Show what a revision would change on each host, before anything is touched.')
    .argument('[hosts...]', HOSTS)
    .addOption(whereOption())
    .addOption(revisionOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Each host fetches or builds the system, compares it with the one that runs, and stops there. A reboot reason with an
exclamation mark is one without which the system cannot be reached.

Examples:
  $ muster plan olaf
  $ muster plan --where 'true' -o wide
${EXITS}`,
    )
    .action(async (hosts, options) => {
      const { plan } = await import('../commands/plan.ts')
      await plan(cli, hosts, options)
    })

  program
    .command('apply')
    .description('Order hosts to a revision and wait until each has an outcome.')
    .argument('[hosts...]', HOSTS)
    .addOption(whereOption())
    .addOption(revisionOption())
    .option('--plan', 'show what would change on every host first, and ask')
    .option('--yes', 'with --plan: do not ask')
    .addOption(noWaitOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster apply olaf
  $ muster apply olaf --plan
  $ muster apply --where "labels.rack == 'a'" --timeout 30m
  $ muster apply olaf --revision 4 --no-wait

Hosts that are named go through the gates and budgets of every rollout: as many at once as max-unavailable says, and each
soaks. \`muster rollout show\` tells what they wait for, \`muster rollout override\` opens a gate.
The host that the coordinator itself runs on is ordered alone; a backup of the coordinator is made before.
A change that nobody confirmed, or that met another switch, is tried again up to three times by itself.
${EXITS}`,
    )
    .action(async (hosts, options) => {
      const { apply } = await import('../commands/apply.ts')
      await apply(cli, hosts, options)
    })

  program
    .command('rollback')
    .description('Return a host to the system that ran before its newest change.')
    .argument('<host>', HOST)
    .option('--to <operation>', 'to the system that this operation reached; the start of its id')
    .option('--before <operation>', 'to the system that ran before this operation; the start of its id')
    .addOption(noWaitOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
The host goes to a store path of its own journal, never to "one generation back". \`muster operations HOST\` lists the
operations.

Examples:
  $ muster rollback olaf
  $ muster rollback olaf --to 0k3xq2v1a-5f0c9d1e2b3a
${EXITS}`,
    )
    .action(async (host, options) => {
      const { rollback } = await import('../commands/order-host.ts')
      await rollback(cli, host, options)
    })

  program
    .command('reboot')
    .description('Reboot a host and wait until it is back.')
    .argument('<host>', HOST)
    .addOption(noWaitOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText('after', EXITS)
    .action(async (host, options) => {
      const { reboot } = await import('../commands/order-host.ts')
      await reboot(cli, host, options)
    })

  program
    .command('restart')
    .description('Restart the Kubernetes of a host and wait until it is well.')
    .argument('<host>', HOST)
    .addOption(noWaitOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Its node is drained before and uncordoned afterwards, as with an upgrade; which units are restarted the system of the host says. For
several hosts, one after the other: \`muster rollout start --action restart\`.
${EXITS}`,
    )
    .action(async (host, options) => {
      const { restart } = await import('../commands/order-host.ts')
      await restart(cli, host, options)
    })
}

/** Whether a host obeys, and what it will not try again. */
function defineObedience(program: Command, cli: Cli): void {
  program
    .command('hold')
    .description('Make a host obey nothing but `resume`, `retry` and `plan` from here on.')
    .argument('<host>', HOST)
    .requiredOption('--why <text>', 'why, for whoever finds it held; at most 256 characters')
    .addOption(noWaitOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText('after', '\nExample:\n  $ muster hold olaf --why "the disk is being replaced"\n')
    .action(async (host, options) => {
      const { hold } = await import('../commands/order-host.ts')
      await hold(cli, host, options)
    })

  program
    .command('resume')
    .description('Make a host that is on hold obey again.')
    .argument('<host>', HOST)
    .addOption(noWaitOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .action(async (host, options) => {
      const { resume } = await import('../commands/order-host.ts')
      await resume(cli, host, options)
    })

  program
    .command('retry')
    .description('Let a host try again what failed on it before.')
    .argument('<host>', HOST)
    .addOption(noWaitOption())
    .addOption(timeoutOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
A system that failed on a host is not tried there again, under whatever revision it comes. This forgets that; \`muster
show\` lists what is meant. Order the revision afterwards.
`,
    )
    .action(async (host, options) => {
      const { retry } = await import('../commands/order-host.ts')
      await retry(cli, host, options)
    })
}

/** What is on record. */
function defineRecords(program: Command, cli: Cli): void {
  program
    .command('operations')
    .description('List operations, newest first; with an operation’s id, that one with its phases.')
    .argument('[ref]', 'a host, or the start of a machine’s or an operation’s id')
    .option('--limit <n>', 'how many at most (100)', numberBetween(1, 1000))
    .addOption(outputOption())
    .addOption(watchOption())
    .action(async (ref, options) => {
      const { listOperations } = await import('../commands/list-operations.ts')
      await listOperations(cli, ref, options)
    })

  program
    .command('logs')
    .description('Print the build output of a host’s operation that is under way, or that changed it last.')
    .argument('<host>', HOST)
    .option('-f, --follow', 'go on until the operation ends')
    .option('--operation <operation>', 'of this operation instead; the start of its id')
    .option('-n, --tail <n>', 'only the last lines', numberBetween(1, 1_000_000))
    .addHelpText('after', '\nExample:\n  $ muster logs olaf --follow\n')
    .action(async (host, options) => {
      const { followLogs } = await import('../commands/follow-logs.ts')
      await whileRead(cli, reading => followLogs(reading, host, options))
    })

  program
    .command('generations')
    .description('List the generations of a host’s system profile, as the host last told them.')
    .argument('<host>', HOST)
    .addOption(outputOption())
    .action(async (host, options) => {
      const { listGenerations } = await import('../commands/list-generations.ts')
      await listGenerations(cli, host, options)
    })

  program
    .command('evidence')
    .description('Write what shows offline what hosts did: keys, signed revisions, signed outcomes.')
    .argument('[hosts...]', `${HOSTS}; none: all`)
    .option('--limit <n>', 'at most so many of the newest outcomes of each (100)', numberBetween(1, 1000))
    .addHelpText('after', '\nExample:\n  $ muster evidence olaf > olaf.json && muster verify olaf.json\n')
    .action(async (hosts, options) => {
      const { evidence } = await import('../commands/verify.ts')
      await evidence(cli, hosts, options)
    })

  program
    .command('verify')
    .description(
      'Check the signatures of revisions and outcomes: of a file without any coordinator, or of hosts.',
    )
    .argument('[what...]', `a file of \`muster evidence\`, or ${HOSTS}; none: all hosts`)
    .option('--trust-pin <pin>', 'trust this set instead of what this operator knows of the fleet')
    .option(
      '--limit <n>',
      'at most so many of the newest outcomes of each host (100)',
      numberBetween(1, 1000),
    )
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Checked are: the trust sets, from the pin or from the operator's own copy; the signatures on each revision, as many as the
set of its time asks for; that each machine's id is the digest of its key; that the machine's key signed each outcome; and
that each outcome names a revision that holds.

Ends with 0 when everything holds, 1 when anything does not, 3 when there is nothing to check, 4 when there is nothing to
trust it by.
`,
    )
    .action(async (what, options) => {
      const { verify } = await import('../commands/verify.ts')
      await verify(cli, what, options)
    })
}
