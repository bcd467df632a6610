/** Of what the names are that fit somewhere. */
export type NameKind =
  | 'host'
  | 'cluster'
  | 'rollout'
  | 'revision'
  | 'gate'
  | 'token'
  | 'operator'
  | 'profile'
  | 'operation'
  | 'file'

/** By the name of the argument, where it is the same everywhere. */
const BY_ARGUMENT: Readonly<Record<string, readonly NameKind[]>> = {
  ref: ['host'],
  host: ['host'],
  hosts: ['host'],
  machine: ['host'],
  cluster: ['cluster'],
  rollout: ['rollout'],
  revision: ['revision'],
  gate: ['gate'],
  file: ['file'],
  dir: ['file'],
}

/** By the command and the name, where the name alone does not tell. */
const BY_COMMAND: Readonly<Record<string, readonly NameKind[]>> = {
  'operations ref': ['host', 'operation'],
  'verify what': ['host', 'file'],
  'diff from': ['revision', 'file'],
  'token revoke id': ['token'],
  'operator remove name': ['operator'],
}

export function kindsOfArgument(path: readonly string[], name: string): readonly NameKind[] {
  return BY_COMMAND[[...path, name].join(' ')] ?? BY_ARGUMENT[name] ?? []
}

const BY_OPTION: Readonly<Record<string, readonly NameKind[]>> = {
  '--host': ['host'],
  '--on': ['host'],
  '--canary': ['host'],
  '--cluster': ['cluster'],
  '--after': ['rollout'],
  '--revision': ['revision'],
  '--operation': ['operation'],
  '--to': ['operation'],
  '--before': ['operation'],
  '--profile': ['profile'],
}

export function kindsOfOption(long: string, flags: string): readonly NameKind[] {
  return BY_OPTION[long] ?? (/<(?:file|folder|dir|path)>/.test(flags) ? ['file'] : [])
}

/** What begins the value of an option that is no list of choices. */
export const OPTION_WORDS: Readonly<Record<string, readonly string[]>> = {
  '--probe': ['units', 'units=', 'disks', 'disks=', 'ports', 'journal='],
}
