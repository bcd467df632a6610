import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate, timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  HeldSchema,
  type NodeStatus,
  NodeStatusSchema,
  QuarantinedSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import { bootLoaderOf } from '../plan/boot-loader.ts'
import { readGenerations } from '../plan/generations.ts'
import { knownValue } from '../plan/part.ts'
import { canTry } from '../safety/can-try.ts'
import type { OperationsDeps } from './context.ts'
import type { NodeMemory } from './node-memory.ts'

const MOST_GENERATIONS = 100

/** The whole of what a node holds on to, as it is told. */
export function describeNode(
  machine: MessageInitShape<typeof NodeStatusSchema>,
  { held, quarantined }: NodeMemory,
): NodeStatus {
  const status = create(NodeStatusSchema, machine)
  if (held) status.held = create(HeldSchema, { reason: held.reason, since: timestampFromDate(held.since) })
  status.quarantined = quarantined.map(({ storePath, reason, operation, revision, at }) =>
    create(QuarantinedSchema, {
      storePath,
      reason,
      operationId: operation,
      revision: BigInt(revision),
      at: timestampFromDate(at),
    }),
  )
  return status
}

/** What of the node's status is read from the machine: generations, boot loader, and which agent this is. */
export async function readMachineStatus({
  system,
  config,
  program,
}: Pick<OperationsDeps, 'system' | 'config' | 'program'>): Promise<
  MessageInitShape<typeof NodeStatusSchema>
> {
  const reading = await readGenerations(system, config.systemRoot)
  const machine = reading.kind === 'generations' ? reading.value : undefined
  const current = machine && knownValue(machine.current)
  const booted = machine && knownValue(machine.booted)
  const loader = current === undefined ? 'unknown' : await bootLoaderOf(system, current)
  return {
    program: program.findLast(word => word.startsWith('/')) ?? program.at(-1) ?? '',
    bootLoader: loader === 'unknown' ? '' : loader === 'systemd-boot' || loader === 'grub' ? loader : 'other',
    currentSystem: current ?? '',
    oneShotBoot: (await canTry(system, config.systemRoot)).kind === 'can',
    generations: (machine?.generations ?? [])
      .toReversed()
      .slice(0, MOST_GENERATIONS)
      .map(({ number, path, madeMs }) => {
        const storePath = knownValue(path) ?? ''
        return {
          number,
          storePath,
          ...(madeMs !== undefined && { created: timestampFromMs(Math.round(madeMs)) }),
          booted: storePath !== '' && storePath === booted,
          current: storePath !== '' && storePath === current,
          profile: number === machine?.profileNumber,
        }
      }),
  }
}
