import { type Command, InvalidArgumentError, Option } from '@commander-js/extra-typings'
import { readAmount } from '../../shared/rollout/amount.ts'
import { failurePolicies, ROLLOUT_DEFAULTS } from '../../shared/rollout/rollout-bounds.ts'
import type { Cli } from '../cli.ts'
import { formatDuration, parseDuration } from '../duration.ts'
import {
  collectText,
  numberBetween,
  outputOption,
  parseSoak,
  parseTime,
  signingKeyOption,
  watchOption,
  whereOption,
} from '../option-types.ts'
import { whileRead } from '../output/while-read.ts'
import { revisionNumber } from '../revision-number.ts'

const ROLLOUT = 'a rollout’s id, or the start of it'
const ACTIONS = [
  ...(['apply', 'rollback', 'reboot', 'restart', 'upgrade', 'drain', 'uncordon', 'leave', 'rotate'] as const),
] as const

/** Where an option is left out the fleet's policy says it, which has defaults of its own. */
const byPolicy = (otherwise: string) => `([rollout] of fleet.toml, else ${otherwise})`

function amount(text: string): string {
  if (readAmount(text) === undefined)
    throw new InvalidArgumentError('must be such as 2 or 10%, and not nothing.')
  return text
}

/** A time that is ahead: a duration from now, or an ISO time. */
function untilTime(text: string): Date {
  const ms = parseDuration(text)
  const at = ms === undefined ? new Date(text) : new Date(Date.now() + ms)
  if (Number.isNaN(at.getTime()))
    throw new InvalidArgumentError('must be such as 2w, 3d or 2026-12-24T08:00Z.')
  return at
}

export function defineRolloutCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Rollouts:')
  const rollout = program
    .command('rollout')
    .description('Move hosts node by node, through gates.')
    .addHelpText(
      'after',
      `
A rollout fetches and builds everywhere first, takes canaries before the others, servers before workers and no more hosts at a time
than may be away, and waits at gates; \`rollout show\` says for each host which one holds it and what opens it. The settings are
those of [rollout] in fleet.toml, where the command says nothing else. docs/rollouts.md tells all.
`,
    )
  defineStart(rollout, cli)
  defineShow(rollout, cli)
  defineChange(rollout, cli)
  defineLocks(program, cli)
}

function defineStart(rollout: Command, cli: Cli): void {
  rollout
    .command('start')
    .description('Begin a rollout and show it until it is over.')
    .argument('[revision]', 'the number of a revision, or newest')
    .addOption(whereOption())
    .addOption(new Option('--host <host>', 'this host; several times for several').argParser(collectText))
    .addOption(new Option('--action <action>', 'what is done to each host (apply)').choices(ACTIONS))
    .option('--dry-run', 'show the whole order, and what holds whom now, and begin nothing')
    .addOption(
      new Option(
        '--max-unavailable <n>',
        `how many may be away at once, such as 2 or 10% ${byPolicy(ROLLOUT_DEFAULTS.maxUnavailable)}`,
      ).argParser(amount),
    )
    .addOption(
      new Option('--canary <host>', 'this host goes first; several times for several').argParser(collectText),
    )
    .addOption(new Option('--canary-size <n>', 'so many go first, such as 1 or 5%').argParser(amount))
    .addOption(
      new Option(
        '--canary-soak <time>',
        `how long canaries must stay well ${byPolicy('as --soak')}`,
      ).argParser(parseSoak),
    )
    .addOption(
      new Option(
        '--soak <time>',
        `how long each host must stay well ${byPolicy(formatDuration(ROLLOUT_DEFAULTS.soakMs))}`,
      ).argParser(parseSoak),
    )
    .addOption(
      new Option(
        '--on-failure <what>',
        `what a failed host means; revert with apply alone ${byPolicy(ROLLOUT_DEFAULTS.onFailure)}`,
      ).choices(failurePolicies),
    )
    .addOption(
      new Option('--max-failures <n>', 'with --on-failure continue: at so many it stops').argParser(
        numberBetween(1, 10_000),
      ),
    )
    .option('--spread <label>', 'no two hosts with the same value of this label at once')
    .addOption(new Option('--drain-limit <time>', 'how long pods are waited for').argParser(parseTime))
    .option(
      '--delete-emptydir-data',
      'with --action drain: also pods whose emptyDir volumes are lost, as on the way to any other action',
    )
    .option('--delete-unmanaged', 'with --action drain: also pods that nobody makes anew')
    .addOption(signingKeyOption())
    .addOption(
      new Option(
        '--after <rollout>',
        'begin nothing before this rollout has succeeded; the start of its id; several times',
      ).argParser(collectText),
    )
    .option('--why <text>', 'why, for whoever looks at it')
    .option('--no-wait', 'only begin it')
    .addOption(
      new Option('--timeout <time>', 'how long to follow it; it goes on (until it is over)').argParser(
        parseTime,
      ),
    )
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster rollout start newest --dry-run
  $ muster rollout start 7 --where "labels.rack == 'a'" --canary n4 --max-unavailable 2
  $ muster rollout start --action reboot --where 'size(status.rebootReasons) > 0'
  $ muster rollout start --action rotate --where "cluster.name == 'home'" --max-unavailable 1

leave, and rotate, which makes the certificates of each host anew, are orders that you sign, one for each host; --key says with what.
A restore, a rotation of tokens and the leave of a machine that is gone are of one cluster: \`muster cluster restore\`, \`muster cluster
rotate\`, \`muster leave --dead\`.

Ends with 0 when every host got there, 7 when some did; when none did, 6 if one failed, else 4: all were left behind.
`,
    )
    .action(async (revision, options) => {
      const { startRollout } = await import('../commands/rollouts.ts')
      await startRollout(cli, revision, options)
    })
}

function defineShow(rollout: Command, cli: Cli): void {
  rollout
    .command('list')
    .description('List rollouts, newest first.')
    .option('--open', 'only those that are not over')
    .option('--limit <n>', 'how many at most (100)', numberBetween(1, 1000))
    .addOption(outputOption())
    .addOption(watchOption())
    .action(async options => {
      const { listRollouts } = await import('../commands/rollouts.ts')
      await listRollouts(cli, options)
    })

  rollout
    .command('show')
    .description(
      'Show a rollout with its hosts: how far each is, which gate holds it, and what would open it.',
    )
    .argument('<rollout>', ROLLOUT)
    .addOption(outputOption())
    .action(async (id, options) => {
      const { showRollout } = await import('../commands/rollouts.ts')
      await showRollout(cli, id, options)
    })

  rollout
    .command('watch')
    .description('Follow a rollout until it is over; without its id, the newest.')
    .argument('[rollout]', ROLLOUT)
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
On a terminal it is one screen: bars, phases, the gate that holds, time left. Elsewhere, as in a pipe, it is a line for each change,
and with -o json one JSON object a line: first the whole rollout, then the hosts that changed.
`,
    )
    .action(async (id, options) => {
      const { watchRollout } = await import('../commands/rollouts.ts')
      await whileRead(cli, reading => watchRollout(reading, id, options))
    })
}

function defineChange(rollout: Command, cli: Cli): void {
  rollout
    .command('pause')
    .description('Begin nothing new from now on; what was begun goes to its end.')
    .argument('<rollout>', ROLLOUT)
    .option('--why <text>', 'why, for whoever finds it paused')
    .addOption(outputOption())
    .action(async (id, options) => {
      const { changeRollout } = await import('../commands/rollouts.ts')
      await changeRollout(cli, 'pause', id, options)
    })

  rollout
    .command('resume')
    .description('Go on with a paused rollout.')
    .argument('<rollout>', ROLLOUT)
    .addOption(outputOption())
    .action(async (id, options) => {
      const { changeRollout } = await import('../commands/rollouts.ts')
      await changeRollout(cli, 'resume', id, options)
    })

  rollout
    .command('abort')
    .description('End a rollout: nothing more is begun, nothing is taken back.')
    .argument('<rollout>', ROLLOUT)
    .option('--why <text>', 'why, for whoever looks at it')
    .addOption(outputOption())
    .action(async (id, options) => {
      const { changeRollout } = await import('../commands/rollouts.ts')
      await changeRollout(cli, 'abort', id, options)
    })

  rollout
    .command('revert')
    .description('End a rollout and take back what it changed, by another rollout through the same gates.')
    .argument('<rollout>', ROLLOUT)
    .option('--why <text>', 'why, for whoever looks at it')
    .option('--no-wait', 'only begin it')
    .addOption(new Option('--timeout <time>', 'how long to follow it; it goes on').argParser(parseTime))
    .addOption(outputOption())
    .action(async (id, options) => {
      const { changeRollout } = await import('../commands/rollouts.ts')
      await changeRollout(cli, 'revert', id, options)
    })

  rollout
    .command('override')
    .description('Open one gate for one host of a rollout; it is recorded.')
    .argument('<rollout>', ROLLOUT)
    .argument('<host>', 'a host of it')
    .argument('<gate>', 'the gate that holds it, as `rollout show` names it')
    .requiredOption('--why <text>', 'why, at most 256 characters')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ muster rollout override 0n3xq n4 window --why "the shop is closed today"\n',
    )
    .action(async (id, host, gate, options) => {
      const { overrideGate } = await import('../commands/rollouts.ts')
      await overrideGate(cli, id, host, gate, options)
    })

  rollout
    .command('accept')
    .description('Let rollouts go on though the coordinator’s store is older than what nodes report.')
    .requiredOption('--why <text>', 'why it is right to go on, at most 256 characters')
    .addOption(outputOption())
    .action(async options => {
      const { acceptRestore } = await import('../commands/rollouts.ts')
      await acceptRestore(cli, options)
    })
}

function defineLocks(program: Command, cli: Cli): void {
  program
    .command('lock')
    .description('Make rollouts pass a host by.')
    .argument('<host>', 'a host')
    .requiredOption('--why <text>', 'why, for whoever finds it locked; at most 256 characters')
    .addOption(outputOption())
    .addHelpText('after', '\nExample:\n  $ muster lock n4 --why "a guest runs on it until Friday"\n')
    .action(async (host, options) => {
      const { lockHost } = await import('../commands/locks.ts')
      await lockHost(cli, host, options)
    })

  program
    .command('unlock')
    .description('Let rollouts touch a host again.')
    .argument('<host>', 'a host')
    .addOption(outputOption())
    .action(async (host, options) => {
      const { unlockHost } = await import('../commands/locks.ts')
      await unlockHost(cli, host, options)
    })

  program
    .command('pin')
    .description('Keep a host at a revision until a day.')
    .argument('<host>', 'a host')
    .argument('<revision>', 'the number of a revision, or newest', revisionNumber)
    .requiredOption('--why <text>', 'why; at most 256 characters')
    .requiredOption(
      '--until <time>',
      'when it ends: 2w, 3d or an ISO time; at most 366 days ahead',
      untilTime,
    )
    .addOption(outputOption())
    .addHelpText('after', '\nExample:\n  $ muster pin n4 6 --why "its driver fails with 7" --until 2w\n')
    .action(async (host, revision, options) => {
      const { pinHost } = await import('../commands/locks.ts')
      await pinHost(cli, host, revision, options)
    })

  program
    .command('unpin')
    .description('End a pin.')
    .argument('<host>', 'a host')
    .addOption(outputOption())
    .action(async (host, options) => {
      const { unpinHost } = await import('../commands/locks.ts')
      await unpinHost(cli, host, options)
    })

  program
    .command('locks')
    .description('List locked and pinned hosts.')
    .addOption(outputOption())
    .action(async options => {
      const { listLocks } = await import('../commands/locks.ts')
      await listLocks(cli, options)
    })
}
