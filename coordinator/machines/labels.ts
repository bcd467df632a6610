import type { MachineDirectory } from './directory.ts'

/** Labels of the signed fleet file count before those that came with a token or by hand. */
export function labelsOf(
  directory: Pick<MachineDirectory, 'assignment' | 'targets'>,
  id: string,
  own: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const assignment = directory.assignment(id)
  if (assignment.kind !== 'host') return own
  const { hosts, groups } = directory.targets
  const target = assignment.group === '' ? hosts.get(assignment.host) : groups.get(assignment.group)
  return { ...own, ...target?.labels }
}
