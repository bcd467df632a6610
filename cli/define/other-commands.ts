import { Argument, type Command } from '@commander-js/extra-typings'
import { suggest } from '../../shared/suggest.ts'
import { VERSION } from '../../shared/version.ts'
import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import { outputOption } from '../option-types.ts'

interface Helped {
  name(): string
  readonly commands: readonly Helped[]
  help(): void
}

/** The command that words name. */
function commandOf(program: Helped, words: readonly string[]): Helped {
  let command = program
  for (const [at, word] of words.entries()) {
    const names = command.commands.map(sub => sub.name()).filter(name => !name.startsWith('__'))
    const sub = command.commands.find(each => each.name() === word)
    if (!sub) {
      const near = suggest(word, names)
      const cure = near === undefined ? '`muster help` lists them' : `did you mean ${near}?`
      throw new CliError('usage', `help: muster has no command ${words.slice(0, at + 1).join(' ')}; ${cure}`)
    }
    command = sub
  }
  return command
}

export function defineOtherCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Coordinator and command:')

  program
    .command('backup')
    .description(
      'Copy everything the coordinator keeps (store, authority, revisions) into a new file, while it runs.',
    )
    .argument('<file>', 'the file; it must not exist')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nThe file holds the keys of the certificate authority: keep it as you keep those.\n',
    )
    .action(async (file, options) => {
      const { backup } = await import('../commands/backup.ts')
      await backup(cli, file, options)
    })

  program
    .command('restore')
    .description('Replace everything the coordinator keeps by a backup.')
    .argument('<file>', 'a file of `muster backup`')
    .option('--yes', 'do it: what happened since that backup is forgotten')
    .addOption(outputOption())
    .action(async (file, options) => {
      const { restore } = await import('../commands/backup.ts')
      await restore(cli, file, options)
    })

  program
    .command('completion')
    .description('Print a script that completes commands, options and hosts in your shell.')
    .addArgument(new Argument('<shell>', 'your shell').choices(['bash', 'zsh', 'fish'] as const))
    .addHelpText(
      'after',
      `
Examples:
  $ source <(muster completion bash)                              in ~/.bashrc
  $ muster completion zsh > "\${fpath[1]}/_muster"
  $ muster completion fish > ~/.config/fish/completions/muster.fish
`,
    )
    .action(async shell => {
      const { completionScript } = await import('../commands/completion.ts')
      cli.io.out(completionScript(shell))
    })

  program
    .command('help')
    .description('Show help, or that of a command.')
    .argument('[command...]', 'a command, as in `muster help rollout start`')
    .action(words => commandOf(program, words).help())

  program
    .command('version')
    .description('Print the version.')
    .addOption(outputOption())
    .action(async ({ output }) => {
      const { showResult } = await import('../output/show-result.ts')
      await showResult(cli.io, 'version', { version: VERSION }, output, () => `muster ${VERSION}\n`)
    })

  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .helpOption(false)
    .action(async words => {
      const { complete } = await import('../commands/completion.ts')
      cli.io.out((await complete(cli, program, words)).map(word => `${word}\n`).join(''))
    })
}
