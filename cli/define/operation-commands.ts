import { type Command, Option } from '@commander-js/extra-typings'
import type { Cli } from '../cli.ts'
import { numberBetween, outputOption, parseTime, watchOption, whereOption } from '../option-types.ts'

const DEFAULT_TIMEOUT_MS = 3_600_000

export function defineOperationCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Operations:')

  program
    .command('apply')
    .description('Order hosts to a revision and wait until each has an outcome.')
    .argument('[hosts...]', 'hosts, or the starts of machines’ ids')
    .addOption(whereOption())
    .option(
      '--revision <n>',
      'this revision instead of the newest',
      numberBetween(1, Number.MAX_SAFE_INTEGER),
    )
    .option('--no-wait', 'only order it')
    .addOption(
      new Option('--timeout <time>', 'how long to wait; what was ordered goes on')
        .argParser(parseTime)
        .default(DEFAULT_TIMEOUT_MS, '1h'),
    )
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster apply olaf
  $ muster apply --where "labels.rack == 'a'" --timeout 30m
  $ muster apply olaf --revision 4 --no-wait

Ends with 0 when every node succeeded, 4 when all refused, 6 when all failed, 7 when some did, 9 degraded, 10 reboot
required, 11 unknown; docs/exit-codes.md tells all.
`,
    )
    .action(async (hosts, options) => {
      const { apply } = await import('../commands/apply.ts')
      await apply(cli, hosts, options)
    })

  program
    .command('operations')
    .description('List operations, newest first; with an operation’s id, that one with its phases.')
    .argument('[ref]', 'a host, the start of a machine’s id, or an operation’s id')
    .option('--limit <n>', 'how many at most (100)', numberBetween(1, 1000))
    .addOption(outputOption())
    .addOption(watchOption())
    .action(async (ref, options) => {
      const { listOperations } = await import('../commands/list-operations.ts')
      await listOperations(cli, ref, options)
    })

  program
    .command('logs')
    .description('Print the build output of a host’s newest operation.')
    .argument('<host>', 'a host, or the start of a machine’s id')
    .option('-f, --follow', 'go on until the operation ends')
    .option('--operation <id>', 'of this operation instead')
    .option('-n, --tail <n>', 'only the last lines', numberBetween(1, 1_000_000))
    .addHelpText('after', '\nExample:\n  $ muster logs olaf --follow\n')
    .action(async (host, options) => {
      const { followLogs } = await import('../commands/follow-logs.ts')
      await followLogs(cli, host, options)
    })
}
