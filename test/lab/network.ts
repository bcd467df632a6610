import { must } from './run.ts'

/** Where the coordinator listens, in the network of every lab. Each lab has a network of its own, so all use the same. */
export const COORDINATOR_ADDRESS = '10.91.0.1'
export const PREFIX_LENGTH = 24
const FIRST_MACHINE = 10

/** The address of the machine that was made as the `index`th, from 0 to 199. */
export function machineAddress(index: number): string {
  if (!Number.isInteger(index) || index < 0 || index > 199)
    throw new Error(`a lab has no machine number ${index}: it has at most 200, counted from 0`)
  return `10.91.0.${FIRST_MACHINE + index}`
}

/** A name of Linux, of which several labs need different ones: a network namespace with a bridge and nothing else. */
export async function createNetwork(namespace: string): Promise<void> {
  await must('ip', ['netns', 'add', namespace])
  const commands = [
    ['link', 'set', 'lo', 'up'],
    ['link', 'add', 'br0', 'type', 'bridge'],
    ['addr', 'add', `${COORDINATOR_ADDRESS}/${PREFIX_LENGTH}`, 'dev', 'br0'],
    ['link', 'set', 'br0', 'up'],
  ]
  for (const command of commands) await must('ip', ['-n', namespace, ...command])
}

export async function removeNetwork(namespace: string): Promise<void> {
  await must('ip', ['netns', 'del', namespace])
}

/**
 * What stands in front of a command to run it in the namespace. Not `ip netns exec`: that mounts /sys anew, and
 * systemd-nspawn then finds no control groups.
 */
export const insideNetwork = (namespace: string): readonly string[] => [
  'nsenter',
  `--net=/run/netns/${namespace}`,
]

/** Pulls or plugs the cable of a machine, at the bridge's end. */
export async function setCable(namespace: string, link: string, plugged: boolean): Promise<void> {
  await must('ip', ['-n', namespace, 'link', 'set', link, plugged ? 'up' : 'down'])
}
