import { Command, Help, type Option, type OutputConfiguration } from '@commander-js/extra-typings'
import { VERSION } from '../shared/version.ts'
import type { Cli } from './cli.ts'
import { defineClusterCommands } from './define/cluster-commands.ts'
import { defineDirectoryCommands } from './define/directory-commands.ts'
import { defineMachineCommands } from './define/machine-commands.ts'
import { defineOperationCommands } from './define/operation-commands.ts'
import { defineOtherCommands } from './define/other-commands.ts'
import { defineRolloutCommands } from './define/rollout-commands.ts'
import { defineTrustCommands } from './define/trust-commands.ts'
import type { Io } from './io.ts'

/** The whole command line. What a command does is imported when it is run, so that none waits for the others. */
export function buildProgram(base: Omit<Cli, 'connection'>): Command {
  const program = new Command('muster')
    .description(
      'Fleet system for NixOS and Kubernetes: see the whole fleet, and move it node by node to signed configurations.',
    )
    .version(`muster ${VERSION}`, '-V, --version', 'print the version')
    .option('--socket <path>', 'the socket of the coordinator on this machine ($MUSTER_SOCKET)')
    .option('--profile <name>', 'an operator profile, for a coordinator elsewhere ($MUSTER_PROFILE)')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true, helpWidth: Math.min(base.io.columns, 120), optionDescription })
    .addHelpText('after', EXAMPLES)
  const cli: Cli = { ...base, connection: () => program.opts() }
  defineMachineCommands(program, cli)
  defineTrustCommands(program, cli)
  defineDirectoryCommands(program, cli)
  defineOperationCommands(program, cli)
  defineRolloutCommands(program, cli)
  defineClusterCommands(program, cli)
  defineOtherCommands(program, cli)
  prepare(program, base.io)
  return program
}

/** Commander tells of a required option only when it is missing. */
function optionDescription(option: Option): string {
  return `${Help.prototype.optionDescription(option)}${option.mandatory ? ' (required)' : ''}`
}

/** Settings that commander hands down only to commands made after them. */
function prepare(command: CommandLike, io: Io): void {
  command.exitOverride()
  // In a list of commands the first clause is enough; the command's own help has the rest.
  command.summary(
    command
      .description()
      .split(/[:.,(]/)[0]
      ?.trim() ?? '',
  )
  command.configureOutput({
    writeOut: text => io.out(text),
    writeErr: text => io.err(text),
    getOutHasColors: () => false,
    getErrHasColors: () => false,
  })
  for (const sub of command.commands) prepare(sub, io)
}

interface CommandLike {
  exitOverride(): unknown
  description(): string
  summary(text: string): unknown
  configureOutput(output: OutputConfiguration): unknown
  readonly commands: readonly CommandLike[]
}

const EXAMPLES = `
Examples:
  $ muster status --watch                     the whole fleet on one screen
  $ muster pending                            who waits to be let in
  $ muster approve 4f2a --host olaf           let a machine in, as host olaf
  $ muster machines --where 'facts.memory.total > 16000000000'
  $ muster publish . && muster apply olaf     sign the directory, move a host to it
  $ muster machines -o json | jq '.[].serial'

A machine is named by its host, its id, or the first characters of its id (at least 4).
What the exit codes mean: docs/exit-codes.md. All commands: docs/reference/cli.md.
`
