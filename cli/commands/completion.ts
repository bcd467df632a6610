import { ClusterService } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { withDeadline } from '../../shared/lifecycle.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { fetchMachines } from './list-machines.ts'

/** Longer than this nobody waits for the Tab key. */
export const NAMES_WITHIN_MS = 700

/** What a command knows of itself, as far as completion needs it. */
export interface CompletedCommand {
  name(): string
  readonly commands: readonly CompletedCommand[]
  readonly options: readonly CompletedOption[]
  readonly registeredArguments: readonly CompletedArgument[]
}

interface CompletedOption {
  readonly long?: string | undefined
  readonly short?: string | undefined
  readonly hidden: boolean
  readonly required: boolean
  readonly variadic: boolean
  readonly argChoices?: readonly string[] | undefined
}

interface CompletedArgument {
  name(): string
  readonly variadic: boolean
  readonly argChoices?: readonly string[] | undefined
}

/** Arguments that name a machine or a host. */
const HOST_ARGUMENTS: ReadonlySet<string> = new Set(['ref', 'host', 'hosts', 'machine', 'what'])
const HOST_OPTIONS: ReadonlySet<string> = new Set(['--host', '--on'])
/** Arguments that name a cluster. */
const CLUSTER_ARGUMENTS: ReadonlySet<string> = new Set(['cluster'])

/** What could stand where the cursor is. */
export interface Candidates {
  readonly words: readonly string[]
  /** Names of hosts fit as well. */
  readonly hosts: boolean
  /** Names of clusters fit as well. */
  readonly clusters: boolean
}

export function candidates(program: CompletedCommand, words: readonly string[]): Candidates {
  const current = words.at(-1) ?? ''
  let command = program
  let positional = 0
  const options = [...program.options]
  let waiting: CompletedOption | undefined
  for (const word of words.slice(0, -1)) {
    if (waiting) {
      waiting = undefined
      continue
    }
    if (word.startsWith('-')) {
      const option = options.find(({ long, short }) => word === long || word === short)
      if (option?.required) waiting = option
      continue
    }
    const sub = positional === 0 ? command.commands.find(found => found.name() === word) : undefined
    if (sub) {
      command = sub
      options.push(...sub.options)
    } else positional += 1
  }
  if (waiting) {
    const long = waiting.long ?? ''
    const names = { hosts: HOST_OPTIONS.has(long), clusters: long === '--cluster' }
    return { words: waiting.argChoices ?? [], ...names }
  }
  const flags = [...options.filter(({ hidden }) => !hidden).map(({ long }) => long ?? ''), '--help'].filter(
    flag => flag !== '',
  )
  if (current.startsWith('-')) return { words: flags, hosts: false, clusters: false }
  const subs =
    positional === 0 ? command.commands.map(sub => sub.name()).filter(name => !name.startsWith('__')) : []
  const args = command.registeredArguments
  const argument = args[positional] ?? (args.at(-1)?.variadic ? args.at(-1) : undefined)
  return {
    words: [...subs, ...(argument?.argChoices ?? [])],
    hosts: argument !== undefined && HOST_ARGUMENTS.has(argument.name()),
    clusters: argument !== undefined && CLUSTER_ARGUMENTS.has(argument.name()),
  }
}

/** The candidates that begin as the last word does. Hosts and clusters are asked of the coordinator, if it answers quickly. */
export async function complete(
  cli: Cli,
  program: CompletedCommand,
  words: readonly string[],
): Promise<string[]> {
  const current = words.at(-1) ?? ''
  const found = candidates(program, words)
  const asked = found.hosts || found.clusters ? await quickNames(cli, found) : []
  return [...new Set([...found.words, ...asked])].filter(word => word.startsWith(current)).sort()
}

async function quickNames(cli: Cli, { hosts }: Candidates): Promise<string[]> {
  try {
    return await withDeadline(NAMES_WITHIN_MS, cli.signal, signal =>
      withCoordinator({ ...cli, signal }, async connection => {
        if (!hosts) {
          const { clusters } = await connection.service(ClusterService).listClusters({}, connection.call)
          return clusters.map(({ name }) => name).filter(isSafeWord)
        }
        const { machines } = await fetchMachines(connection, {})
        return machines
          .map(({ host, id, state }) => host || (state === MachineState.PENDING ? id.slice(0, 12) : ''))
          .filter(isSafeWord)
      }),
    )
  } catch {
    return [] // Completion without names is better than a complaint in the middle of a line.
  }
}

/** Names come from machines and end up in a shell's line. */
function isSafeWord(word: string): boolean {
  return /^[a-z0-9][a-z0-9-]*$/.test(word)
}

export function completionScript(shell: 'bash' | 'zsh' | 'fish'): string {
  switch (shell) {
    case 'bash':
      return BASH
    case 'zsh':
      return ZSH
    case 'fish':
      return FISH
  }
}

const BASH = `# bash completion for muster
_muster() {
  local IFS=$'\\n'
  COMPREPLY=()
  local found
  while read -r found; do COMPREPLY+=("$found"); done < <(muster __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _muster muster
`

const ZSH = `#compdef muster
# zsh completion for muster
_muster() {
  local -a found
  found=("\${(@f)$(muster __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=("\${(@)found:#}")
  if (( \${#found} )); then compadd -a found; else _files; fi
}
if [ "$funcstack[1]" = "_muster" ]; then _muster "$@"; else compdef _muster muster; fi
`

const FISH = `# fish completion for muster
function __muster_complete
  set -l words (commandline -opc) (commandline -ct)
  muster __complete -- $words[2..-1] 2>/dev/null
end
complete -c muster -a '(__muster_complete)'
`
