import type { CommandUnknownOpts, Option } from '@commander-js/extra-typings'
import type { Cli } from '../cli.ts'
import { kindsOfArgument, kindsOfOption, type NameKind, OPTION_WORDS } from '../completion/name-kinds.ts'
import { quickNames } from '../completion/quick-names.ts'

/** What stands where the cursor is, as far as its names are kept somewhere. */
export interface Candidates {
  /** What has been typed of it. */
  readonly typed: string
  /** Stands before every candidate, as in `--output=`. */
  readonly before: string
  readonly words: readonly string[]
  readonly kinds: readonly NameKind[]
}

interface Place {
  readonly command: CommandUnknownOpts
  /** Names of the command and those above it. */
  readonly path: readonly string[]
  readonly options: readonly Option[]
  /** How many arguments stand before the cursor. */
  readonly positional: number
  /** The option whose value is being typed. */
  readonly waiting: Option | undefined
}

export function candidates(program: CommandUnknownOpts, typedWords: readonly string[]): Candidates {
  const words = joinEquals(typedWords)
  const current = words.at(-1) ?? ''
  const place = placeOf(program, words.slice(0, -1))
  const plain = { typed: current, before: '' }
  if (place.waiting) return { ...plain, ...valuesOf(place.waiting) }
  const [, flag = '', value] = /^(--[a-z-]+=)(.*)$/s.exec(current) ?? []
  if (value !== undefined) {
    const option = place.options.find(({ long }) => `${long}=` === flag)
    const values = option ? valuesOf(option) : { words: [], kinds: [] }
    // A shell that breaks words at `=` replaces only what is behind it.
    const isBroken = typedWords.at(-1) !== current
    return { typed: value, before: isBroken ? '' : flag, ...values }
  }
  if (current.startsWith('-')) return { ...plain, words: flagsOf(place), kinds: [] }
  return { ...plain, ...argumentsAt(program, place, words) }
}

/** Bash makes three words of `--output=json`. */
function joinEquals(words: readonly string[]): readonly string[] {
  const joined: string[] = []
  for (const [at, word] of words.entries()) {
    const last = joined.at(-1)
    const isBehind = words[at - 1] === '=' && last?.endsWith('=')
    if (last !== undefined && ((word === '=' && last.startsWith('--')) || isBehind)) {
      joined[joined.length - 1] = `${last}${word}`
    } else joined.push(word)
  }
  return joined
}

function placeOf(program: CommandUnknownOpts, words: readonly string[]): Place {
  let command = program
  let positional = 0
  const path: string[] = []
  const options = [...program.options]
  let waiting: Option | undefined
  for (const word of words) {
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
      path.push(word)
      options.push(...sub.options)
    } else positional += 1
  }
  return { command, path, options, positional, waiting }
}

function valuesOf(option: Option): Pick<Candidates, 'words' | 'kinds'> {
  if (option.argChoices) return { words: option.argChoices, kinds: [] }
  const long = option.long ?? ''
  return { words: OPTION_WORDS[long] ?? [], kinds: kindsOfOption(long, option.flags) }
}

function flagsOf({ options }: Place): readonly string[] {
  const known = options.filter(({ hidden }) => !hidden).map(({ long }) => long ?? '')
  return [...known, '--help'].filter(flag => flag !== '')
}

function argumentsAt(
  program: CommandUnknownOpts,
  { command, path, positional }: Place,
  words: readonly string[],
): Pick<Candidates, 'words' | 'kinds'> {
  if (path[0] === 'help') return { words: namesBelow(program, words.slice(1, -1)), kinds: [] }
  const subs = positional === 0 ? visibleNames(command) : []
  const args = command.registeredArguments
  const argument = args[positional] ?? (args.at(-1)?.variadic ? args.at(-1) : undefined)
  if (!argument) return { words: subs, kinds: [] }
  if (argument.argChoices) return { words: [...subs, ...argument.argChoices], kinds: [] }
  return { words: subs, kinds: kindsOfArgument(path, argument.name()) }
}

function namesBelow(program: CommandUnknownOpts, words: readonly string[]): readonly string[] {
  let command: CommandUnknownOpts | undefined = program
  for (const word of words) command = command?.commands.find(sub => sub.name() === word)
  return command ? visibleNames(command) : []
}

/** Hidden commands are for programs, or older names: nobody is led to them. */
function visibleNames(command: CommandUnknownOpts): readonly string[] {
  const shown = command.createHelp().visibleCommands(command)
  return command.commands.filter(sub => shown.includes(sub)).map(sub => sub.name())
}

/** Where a shell is to offer files beside what is printed. No candidate begins so. */
const FILES = ':files'

/** The candidates that begin as the last word does. Names are asked of the coordinator, if it answers quickly. */
export async function complete(
  cli: Cli,
  program: CommandUnknownOpts,
  words: readonly string[],
): Promise<string[]> {
  const { typed, before, words: known, kinds } = candidates(program, words)
  const asked = await quickNames(cli, kinds, typed)
  const found = [...new Set([...known, ...asked])].filter(word => word.startsWith(typed)).sort()
  return [...found.map(word => `${before}${word}`), ...(kinds.includes('file') ? [FILES] : [])]
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

// Files are offered only where a file is named: `-o default` for everything would offer them where a host is wanted.
const BASH = `# bash completion for muster
_muster() {
  local IFS=$'\\n'
  COMPREPLY=()
  local found
  while read -r found; do
    if [ "$found" = "${FILES}" ]; then compopt -o default 2>/dev/null; else COMPREPLY+=("$found"); fi
  done < <(muster __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _muster muster
`

const ZSH = `#compdef muster
# zsh completion for muster
_muster() {
  local -a found
  found=("\${(@f)$(muster __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  local files=\${found[(I)${FILES}]}
  found=("\${(@)found:#${FILES}}")
  found=("\${(@)found:#}")
  if (( \${#found} )); then compadd -a found; fi
  if (( files )); then _files; fi
}
if [ "$funcstack[1]" = "_muster" ]; then _muster "$@"; else compdef _muster muster; fi
`

const FISH = `# fish completion for muster
function __muster_complete
  set -l words (commandline -opc) (commandline -ct)
  for found in (muster __complete -- $words[2..-1] 2>/dev/null)
    if test "$found" = "${FILES}"
      __fish_complete_path (commandline -ct)
    else
      echo $found
    end
  end
end
complete -c muster -f -a '(__muster_complete)'
`
