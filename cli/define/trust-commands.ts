import { type Command, Option } from '@commander-js/extra-typings'
import type { Cli } from '../cli.ts'
import {
  collectLabel,
  collectText,
  keyOption,
  numberBetween,
  outputOption,
  parseTime,
} from '../option-types.ts'

export function defineTrustCommands(program: Command, cli: Cli): void {
  program.commandsGroup('Access and trust:')
  defineToken(program, cli)
  defineTrust(program, cli)
  defineOperator(program, cli)
}

function defineToken(program: Command, cli: Cli): void {
  const token = program.command('token').description('Tokens that let machines in without a person.')
  token
    .command('create')
    .description('Make a token. It is printed once, alone on standard output.')
    .addOption(
      new Option('--ttl <time>', 'how long it can be used').argParser(parseTime).makeOptionMandatory(),
    )
    .addOption(
      new Option('--uses <n>', 'how many machines it lets in')
        .argParser(numberBetween(1, 10_000))
        .makeOptionMandatory(),
    )
    .option('--label <key=value>', 'a label for what it lets in; may be said several times', collectLabel)
    .option('--host <host>', 'the host the machine becomes; with --uses 1')
    .option('--out <file>', 'write it to a new file that only its owner may read, instead of printing it')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster token create --ttl 1h --uses 3 --label rack=a
  $ muster token create --ttl 15m --uses 1 --host olaf --out olaf.token
`,
    )
    .action(async options => {
      const { createToken } = await import('../commands/tokens.ts')
      await createToken(cli, options)
    })
  token
    .command('list')
    .description('List tokens, without their secrets.')
    .addOption(outputOption())
    .action(async options => {
      const { listTokens } = await import('../commands/tokens.ts')
      await listTokens(cli, options)
    })
  token
    .command('revoke')
    .description('End a token at once. Machines that it let in stay.')
    .argument('<id>', 'the token’s id, as `muster token list` shows it')
    .addOption(outputOption())
    .action(async (id, options) => {
      const { revokeToken } = await import('../commands/tokens.ts')
      await revokeToken(cli, id, options)
    })
}

function defineTrust(program: Command, cli: Cli): void {
  const trust = program
    .command('trust')
    .description('Whose signatures and which authorities the machines believe.')
  trust
    .command('show')
    .description('Show the trust set in force, and the authorities of the coordinator.')
    .addOption(outputOption())
    .action(async options => {
      const { showTrust } = await import('../commands/trust.ts')
      await showTrust(cli, options)
    })
  trust
    .command('set')
    .description('Give the coordinator the trust sets of a file, as `muster init` wrote it.')
    .argument('[file]', 'trust.bin; may be left out where only one fleet is known')
    .addOption(outputOption())
    .action(async (file, options) => {
      const { setTrust } = await import('../commands/trust.ts')
      await setTrust(cli, file, options)
    })
  trust
    .command('confirm')
    .description('Confirm what machines took at first use, after comparing it.')
    .argument('[ref]', 'one machine; all that hold the set in force when left out')
    .addOption(outputOption())
    .action(async (ref, options) => {
      const { confirmTrust } = await import('../commands/trust.ts')
      await confirmTrust(cli, ref, options)
    })
  const rotate = trust
    .command('rotate')
    .description('Replace keys or the certificate authority, without visiting a machine.')
    .addHelpText(
      'after',
      `
A signing key, in one step:
  $ muster trust rotate keys
A lost or leaked signing key, with the recovery key from its safe place:
  $ muster trust rotate keys --recovery-key /media/usb/recovery.key
The certificate authority, in three steps; wait between them until all machines followed:
  $ muster trust rotate ca add
  $ muster trust rotate ca switch
  $ muster trust rotate ca drop
`,
    )
  rotate
    .command('keys')
    .description('Make a new signing key and the next trust set, signed by the old key.')
    .addOption(keyOption())
    .option('--recovery-key <file>', 'sign with this instead: every earlier signing key is replaced')
    .option('--comment <text>', 'whose key it is, for people')
    .option(
      '--add <file>',
      'instead of replacing your key: add this public key (Ed25519, PEM); may be said several times',
      collectText,
    )
    .option(
      '--remove <id>',
      'instead: take out the key whose id begins so; may be said several times',
      collectText,
    )
    .option('--threshold <n>', 'instead: how many keys must sign', numberBetween(1, 16))
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ muster trust rotate keys                                   a new key in place of yours
  $ muster trust rotate keys --add ann.pub --comment ann       Ann may sign as well
  $ muster trust rotate keys --threshold 2                     two must sign from now on (then say --key twice)
  $ muster trust rotate keys --remove 4f2a                     that key counts no more
`,
    )
    .action(async options => {
      const { rotateKeys } = await import('../commands/rotate-trust.ts')
      await rotateKeys(cli, options)
    })
  const ca = rotate.command('ca').description('Give the fleet another certificate authority, in three steps.')
  ca.command('add')
    .description('Make the next authority and a trust set that lists both.')
    .addOption(keyOption())
    .option('--recovery-key <file>', 'sign with this instead')
    .addOption(outputOption())
    .action(async options => {
      const { rotateAuthority } = await import('../commands/rotate-trust.ts')
      await rotateAuthority(cli, 'add', options)
    })
  ca.command('switch')
    .description('Issue certificates from the new authority.')
    .addOption(outputOption())
    .action(async options => {
      const { rotateAuthority } = await import('../commands/rotate-trust.ts')
      await rotateAuthority(cli, 'switch', options)
    })
  ca.command('drop')
    .description('End the old authority, and take it out of the trust set.')
    .addOption(keyOption())
    .option('--recovery-key <file>', 'sign with this instead')
    .option('--force', 'even while a machine’s certificate hangs on the old one')
    .addOption(outputOption())
    .action(async options => {
      const { rotateAuthority } = await import('../commands/rotate-trust.ts')
      await rotateAuthority(cli, 'drop', options)
    })
}

function defineOperator(program: Command, cli: Cli): void {
  const operator = program
    .command('operator')
    .description('People who may command the coordinator from elsewhere.')
  operator
    .command('add')
    .description('Register an operator and write a profile folder that can be carried.')
    .argument('<name>', 'lower-case letters, digits and -')
    .option('--public-key <file>', 'their public key (RSA, PEM), instead of making a key here')
    .option('--lifetime <time>', 'how long the certificate lasts (90d)', parseTime)
    .option('--out <folder>', 'write the profile there instead of into your own configuration')
    .addOption(outputOption())
    .addHelpText(
      'after',
      `
Examples:
  $ sudo muster operator add ann --out ./ann        on the coordinator’s machine; carry ./ann to Ann
  $ muster --profile ann status                     with the folder in ~/.config/muster/operators/ann
`,
    )
    .action(async (name, options) => {
      const { addOperator } = await import('../commands/operators.ts')
      await addOperator(cli, name, options)
    })
  operator
    .command('renew')
    .description('Renew the certificate of the profile in use, while it is still good.')
    .option('--lifetime <time>', 'how long the certificate lasts (90d)', parseTime)
    .addOption(outputOption())
    .action(async options => {
      const { renewOperator } = await import('../commands/operators.ts')
      await renewOperator(cli, options)
    })
  operator
    .command('list')
    .description('List operators.')
    .addOption(outputOption())
    .action(async options => {
      const { listOperators } = await import('../commands/operators.ts')
      await listOperators(cli, options)
    })
  operator
    .command('remove')
    .description('Refuse an operator’s certificate from this moment.')
    .argument('<name>', 'as `muster operator list` shows it')
    .addOption(outputOption())
    .action(async (name, options) => {
      const { removeOperator } = await import('../commands/operators.ts')
      await removeOperator(cli, name, options)
    })
}
