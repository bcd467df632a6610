import { escapeText } from '../../shared/escape.ts'
import { BoundBy, type Machine } from '../../shared/gen/muster/v1/machine_pb.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import type { Format } from '../output/format.ts'
import { machineRecord, shortId, stateWord } from '../output/machine-listing.ts'
import { showOne } from '../output/show-list.ts'
import { showResult } from '../output/show-result.ts'

export interface DecideOptions {
  readonly output?: Format | undefined
  readonly why?: string | undefined
}

export interface ApproveOptions extends DecideOptions {
  readonly host?: string | undefined
  readonly label?: Readonly<Record<string, string>> | undefined
}

export async function approve(cli: Cli, ref: string, options: ApproveOptions): Promise<void> {
  await decide(cli, options, 'approved', ({ client, call }) =>
    client.approveMachine({ ref, host: options.host ?? '', labels: { ...options.label } }, call),
  )
}

export async function reject(cli: Cli, ref: string, options: DecideOptions): Promise<void> {
  await decide(cli, options, 'rejected', ({ client, call }) =>
    client.rejectMachine({ ref, reason: options.why ?? '' }, call),
  )
}

export async function evict(cli: Cli, ref: string, options: DecideOptions): Promise<void> {
  await decide(cli, options, 'evicted', ({ client, call }) =>
    client.evictMachine({ ref, reason: options.why ?? '' }, call),
  )
}

export async function ban(cli: Cli, ref: string, options: DecideOptions): Promise<void> {
  await decide(cli, options, 'banned for good', ({ client, call }) =>
    client.banMachine({ ref, reason: options.why ?? '' }, call),
  )
}

export async function release(cli: Cli, ref: string, options: DecideOptions): Promise<void> {
  await decide(cli, options, 'released', ({ client, call }) =>
    client.releaseMachine({ ref, reason: options.why ?? '' }, call),
  )
}

export async function bind(cli: Cli, host: string, machine: string, options: DecideOptions): Promise<void> {
  // What the signed file ties together already stays so tied, whatever an operator says on top.
  const done = ({ boundBy }: Machine) =>
    boundBy === BoundBy.HAND || boundBy === BoundBy.UNSPECIFIED
      ? `bound to ${host} (loose: by your word alone)`
      : `bound to ${host} by fleet.toml already; your word is kept beside it`
  await decide(cli, options, done, ({ client, call }) => client.bindHost({ host, machine }, call))
}

export async function unbind(cli: Cli, host: string, { output }: DecideOptions): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    await client.unbindHost({ host }, call)
    const text = () => `${escapeText(host)}: bound to no machine any more; what runs there keeps running\n`
    await showResult(cli.io, 'unbind', { host }, output, text)
  })
}

async function decide(
  cli: Cli,
  { output }: DecideOptions,
  told: string | ((machine: Machine) => string),
  act: (connection: Connection) => Promise<{ readonly machine?: Machine | undefined }>,
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { machine } = await act(connection)
    if (!machine) return
    await showOne(cli.io, machineRecord(machine), output, () => {
      const done = typeof told === 'string' ? told : told(machine)
      const state = stateWord(machine.state)
      const host = machine.host === '' ? '' : `, host ${machine.host}`
      return `${escapeText(`${shortId(machine.id)} (${machine.product || 'unknown hardware'}): ${done}${done.startsWith(state) ? '' : `; is ${state}`}${host}`)}\n`
    })
  })
}
