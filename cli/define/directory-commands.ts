import type { Command } from '@commander-js/extra-typings'
import type { Cli } from '../cli.ts'
import { collectNixOption, keyOption, numberBetween, outputOption, parseTime } from '../option-types.ts'

export function defineDirectoryCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Fleet directory and revisions:')

  program
    .command('init')
    .description('Write a fleet directory that works, and the keys that make you its operator.')
    .argument('<dir>', 'the folder to write; it may exist, but nothing in it is overwritten')
    .option('--name <name>', 'the fleet’s name, instead of the folder’s')
    .option('--comment <text>', 'whose signing key it is, for people')
    .option('--recovery-key <file>', 'where to write the recovery key, such as a medium that is kept offline')
    .option('--muster-url <url>', 'where the flake takes Muster from', 'git+https://git.example/muster')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nNeeds no coordinator, no git and no Nix.\n\nExample:\n  $ muster init home --recovery-key /media/usb/recovery.key\n',
    )
    .action(async (dir, options) => {
      const { init } = await import('../commands/init.ts')
      await init(cli, dir, options)
    })

  program
    .command('check')
    .description('Check a fleet directory: every problem as file:line:column, with what would be right.')
    .argument('[dir]', 'the fleet directory', '.')
    .addOption(outputOption())
    .addHelpText(
      'after',
      '\nNeeds no coordinator, no git and no Nix. Ends with 1 when there are errors; warnings alone are fine.\n',
    )
    .action(async (dir, options) => {
      const { check } = await import('../commands/check.ts')
      await check(cli, dir, options)
    })

  program
    .command('publish')
    .description('Sign a fleet directory as the next revision and give it to the coordinator.')
    .argument('[dir]', 'the fleet directory', '.')
    .option('--allow-dirty', 'also when files differ from the commit')
    .option('--renew', 'sign the newest revision anew, unchanged: nothing is applied again')
    .option('--build', 'build every system here with Nix; machines fetch instead of building')
    .option('--signing-key-file <file>', 'with --build: a secret key of Nix that signs every path')
    .option(
      '--option <name=value>',
      'with --build: an option of Nix; may be said several times',
      collectNixOption,
    )
    .option(
      '--floor <n>',
      'machines refuse revisions below it from now on',
      numberBetween(1, Number.MAX_SAFE_INTEGER),
    )
    .option(
      '--expires-in <time>',
      'how long it can be applied anew (what fleet.toml says, else 90d)',
      parseTime,
    )
    .option(
      '--export <file>',
      'also write it, with the closures of --build, into one file for `muster import`',
    )
    .option('--offline', 'only write the file of --export; go on from the newest revision seen from here')
    .option('--accept-older', 'go on from what the coordinator has, though newer was seen from here')
    .addOption(keyOption())
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
The files are those that git tracks or would track; without git, all but .git and result links. Nobody can overwrite
another’s revision: who was slower is told, with exit code 8.

Examples:
  $ muster publish .
  $ muster publish . --build --signing-key-file ~/.config/nix/cache.key --option cores=4
  $ muster publish . --build --signing-key-file cache.key --export fleet.muster --offline
  $ muster publish --renew --expires-in 30d
  $ muster publish --renew --export renewal.muster --offline
`,
    )
    .action(async (dir, options) => {
      const { publish } = await import('../commands/publish.ts')
      await publish(cli, dir, options)
    })

  program
    .command('import')
    .description('Publish a revision from a file of `muster publish --export`, as it was signed.')
    .argument('<file>', 'the file')
    .option('--cache <folder>', 'unpack the closures in it there, as a binary cache')
    .addOption(outputOption())
    .addHelpText('after', '\nExample:\n  $ muster import fleet.muster --cache /srv/cache\n')
    .action(async (file, options) => {
      const { importFile } = await import('../commands/import-file.ts')
      await importFile(cli, file, options)
    })

  program
    .command('diff')
    .description('Show what a revision changes for each host and cluster, and which files differ.')
    .argument(
      '[from]',
      'a fleet directory, the number of a revision, or newest; the directory here when left out',
    )
    .argument('[revision]', 'the number of a revision, or newest')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster diff             the newest revision → the directory here
  $ muster diff home        the newest revision → the directory home
  $ muster diff home 4      revision 4 → the directory home
  $ muster diff 4           revision 4 → the newest
  $ muster diff 4 6         revision 4 → revision 6
`,
    )
    .action(async (from, revision, options) => {
      const { diff } = await import('../commands/diff.ts')
      await diff(cli, from, revision, options)
    })

  program
    .command('revisions')
    .description('List revisions, newest first.')
    .option('--limit <n>', 'how many at most (100)', numberBetween(1, 1000))
    .addOption(outputOption())
    .action(async options => {
      const { listRevisions } = await import('../commands/list-revisions.ts')
      await listRevisions(cli, options)
    })
}
