import type { MessageInitShape } from '@bufbuild/protobuf'
import { create } from '@bufbuild/protobuf'
import { escapeText } from '../../shared/escape.ts'
import {
  type HostStanding,
  type Rollout,
  RolloutSchema,
  RolloutService,
  RolloutSettingsSchema,
  type StartRolloutRequestSchema,
  StartRolloutResponseSchema,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { SIGNED_ACTS } from '../../shared/operator-order/operator-order.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { paint } from '../output/colour.ts'
import type { Format } from '../output/format.ts'
import { plainOf } from '../output/plain.ts'
import { plannedListing, plannedRemarks } from '../output/planned-listing.ts'
import { hostsAtGates, rolloutHostListing, rolloutListing } from '../output/rollout-listing.ts'
import { renderList, showList, showOne } from '../output/show-list.ts'
import { showResult } from '../output/show-result.ts'
import { atGates, standingColumns, standingRecord } from '../output/standing-listing.ts'
import { renderFields, renderTable, tableLook } from '../output/table.ts'
import { watch } from '../output/watch.ts'
import { exitForRollout, followRollout, lookOf, watchLookOf } from '../rollouts/follow-rollout.ts'
import { rolloutStateName, rolloutStyle, whatItDoes } from '../rollouts/rollout-words.ts'
import { signForHosts } from '../rollouts/sign-acts.ts'
import { reportSelectorErrors } from './list-machines.ts'

interface Shown {
  readonly output?: Format | undefined
}

export interface StartOptions extends Shown {
  readonly where?: string | undefined
  readonly host?: readonly string[] | undefined
  readonly action?: string | undefined
  readonly deleteEmptydirData?: boolean | undefined
  readonly deleteUnmanaged?: boolean | undefined
  readonly key?: string | undefined
  readonly dryRun?: boolean | undefined
  readonly canary?: readonly string[] | undefined
  readonly canarySize?: string | undefined
  readonly canarySoak?: number | undefined
  readonly maxUnavailable?: string | undefined
  readonly maxFailures?: number | undefined
  readonly onFailure?: string | undefined
  readonly spread?: string | undefined
  readonly soak?: number | undefined
  readonly drainLimit?: number | undefined
  readonly after?: readonly string[] | undefined
  readonly why?: string | undefined
  readonly wait: boolean
  /** Milliseconds; absent: as long as it takes. */
  readonly timeout?: number | undefined
}

/** Begins a rollout and follows it, or shows its whole order. */
export async function startRollout(
  cli: Cli,
  revision: string | undefined,
  options: StartOptions,
): Promise<void> {
  const request = requestOf(revision, options)
  await withCoordinator(cli, async connection => {
    const client = connection.service(RolloutService)
    const whole = options.dryRun ? request : await signed(cli, connection, request, options.key)
    const answer = await client.startRollout(whole, connection.call)
    const { rollout, order, errors } = answer
    reportSelectorErrors(cli, errors, rollout?.size ?? 0)
    if (options.dryRun) {
      const { output } = options
      if (output === 'json' || output === 'yaml') {
        return await showOne(cli.io, plainOf(StartRolloutResponseSchema, answer), output, () => '')
      }
      await showList(cli.io, order, plannedListing(cli.clock.now()), output)
      for (const remark of plannedRemarks(order, answer.notThoughtThrough)) {
        cli.io.err(`${escapeText(remark)}\n`)
      }
      return
    }
    if (!rollout) throw new CliError('error', 'the coordinator named no rollout')
    if (!options.wait) return await showRolloutOnce(cli, rollout, '', options.output)
    cli.io.err(`rollout ${rollout.id} began; it goes on when this command is stopped\n`)
    await showEnd(cli, connection, rollout.id, options)
  })
}

async function showEnd(
  cli: Cli,
  connection: Connection,
  id: string,
  { output, timeout }: Shown & { readonly timeout?: number | undefined },
): Promise<void> {
  const look = output === 'json' ? 'quiet' : lookOf(cli)
  const ended = await followRollout(cli, connection, id, { look, timeoutMs: timeout })
  if (output !== undefined || look !== 'screen') await showRolloutOnce(cli, ended, '', output)
  exitForRollout(ended)
}

type StartRequest = MessageInitShape<typeof StartRolloutRequestSchema> & { readonly action: string }

/** What destroys is signed host by host, for exactly those that the coordinator names: they are frozen by that, too. */
async function signed(
  cli: Cli,
  connection: Connection,
  request: StartRequest,
  key: string | undefined,
): Promise<StartRequest> {
  const act = SIGNED_ACTS.find(known => known === request.action)
  if (!act) return request
  const client = connection.service(RolloutService)
  const { order, errors } = await client.startRollout({ ...request, dryRun: true }, connection.call)
  reportSelectorErrors(cli, errors, order.length)
  const wanted = { act, parameter: request.act?.parameter ?? '' }
  const signedOrders = await signForHosts(cli, connection, wanted, order, key)
  return { ...request, refs: order.map(({ host }) => host), where: '', signedOrders }
}

/** What a cluster is asked for on each host; undefined: the action is none of a cluster's. */
function actOf(
  action: string,
  { deleteEmptydirData = false, deleteUnmanaged = false, drainLimit }: StartOptions,
): StartRequest['act'] {
  switch (action) {
    case 'drain': {
      const limit = drainLimit === undefined ? {} : { limit: durationFromMs(drainLimit) }
      return { act: action, drain: { ...limit, deleteEmptyDir: deleteEmptydirData, deleteUnmanaged } }
    }
    case 'rotate':
      return { act: action, parameter: 'certificates' }
    case 'leave':
    case 'uncordon':
      return { act: action }
    default:
      return undefined
  }
}

function requestOf(revision: string | undefined, options: StartOptions): StartRequest {
  const { action = 'apply', host = [], where = '', after = [], why = '' } = options
  const goes = action === 'apply' || action === 'upgrade'
  if (revision !== undefined && !goes) {
    throw new CliError('usage', `rollout start: ${action} goes to no revision; leave ${revision} away`)
  }
  if (revision !== undefined && !/^(newest|[1-9][0-9]{0,14})$/.test(revision)) {
    throw new CliError('usage', `rollout start: ${revision} is no revision: write its number, or newest`)
  }
  if (revision === undefined && goes) {
    throw new CliError('usage', 'rollout start: name a revision, such as `muster rollout start newest`')
  }
  if (action !== 'drain' && (options.deleteEmptydirData || options.deleteUnmanaged)) {
    throw new CliError('usage', 'rollout start: what a drain may delete is said with --action drain')
  }
  const act = actOf(action, options)
  const duration = (ms: number | undefined) => (ms === undefined ? undefined : durationFromMs(ms))
  const { canarySoak, soak, drainLimit } = options
  const settings = create(RolloutSettingsSchema, {
    maxUnavailable: options.maxUnavailable ?? '',
    canaries: [...(options.canary ?? [])],
    canarySize: options.canarySize ?? '',
    onFailure: options.onFailure ?? '',
    maxFailures: options.maxFailures ?? 0,
    spread: options.spread ?? '',
    ...(canarySoak === undefined ? {} : { canarySoak: duration(canarySoak)! }),
    ...(soak === undefined ? {} : { soak: duration(soak)! }),
    ...(drainLimit === undefined ? {} : { drainLimit: duration(drainLimit)! }),
  })
  return {
    requestId: randomId(),
    action,
    revision: revision === undefined || revision === 'newest' ? 0n : BigInt(revision),
    refs: [...host],
    where,
    settings,
    ...(act && { act }),
    after: [...after],
    dryRun: options.dryRun ?? false,
    why,
  }
}

export async function listRollouts(
  cli: Cli,
  options: Shown & {
    readonly limit?: number | undefined
    readonly open?: boolean | undefined
    readonly watch?: number | boolean | undefined
  },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const client = connection.service(RolloutService)
    await watch(cli, options.watch, async () => {
      const request = { limit: options.limit ?? 0, open: options.open ?? false }
      const { rollouts, halted } = await client.listRollouts(request, connection.call)
      if (halted !== '') cli.io.err(`halted: ${halted}\n`)
      return await renderList(cli.io, rollouts, rolloutListing(cli.clock.now()), options.output)
    })
  })
}

export async function showRollout(cli: Cli, id: string, { output }: Shown): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { rollout, halted, pending } = await connection
      .service(RolloutService)
      .getRollout({ id }, connection.call)
    if (rollout) await showRolloutOnce(cli, rollout, halted, output, pending)
  })
}

async function showRolloutOnce(
  cli: Cli,
  rollout: Rollout,
  halted: string,
  output: Format | undefined,
  pending: readonly HostStanding[] = [],
): Promise<void> {
  const { io, clock } = cli
  if (output === 'csv') {
    const rows = rollout.hosts.map(host => ({ host, wait: undefined }))
    return await showList(io, rows, rolloutHostListing(clock.now()), output)
  }
  const hosts = await renderList(
    io,
    hostsAtGates(rollout.hosts),
    rolloutHostListing(clock.now()),
    output === 'wide' ? 'wide' : 'table',
  )
  const record = { ...plainOf(RolloutSchema, rollout), halted, pending: pending.map(standingRecord) }
  await showOne(io, record, output, () => {
    const { settings } = rollout
    const fields = renderFields(
      [
        ['rollout', rollout.id],
        ['what', whatItDoes(rollout)],
        ['state', rolloutStateName(rollout.state), rolloutStyle(rollout.state)],
        ['reason', rollout.reason],
        ['halted', halted, 'bad'],
        ['why', rollout.why],
        ['began by', rollout.startedBy],
        ['takes back', rollout.reverts],
        ['after', rollout.after.join(' ')],
        ['may be away', settings?.maxUnavailable],
        ['on failure', settings?.onFailure],
      ],
      io.colour,
    )
    const look = tableLook(io, output === 'wide')
    const waiting =
      pending.length === 0
        ? ''
        : `\n${paint('Begun by itself, once nothing holds it', 'bold', io.colour)}\n${renderTable(atGates(pending), standingColumns(clock.now()), look)}`
    return `${fields}\n${hosts}${waiting}`
  })
}

/** Shows a rollout while it goes on: a screen, lines, or JSON lines. */
export async function watchRollout(cli: Cli, id: string | undefined, { output }: Shown): Promise<void> {
  if (output !== undefined && output !== 'json' && output !== 'table') {
    throw new CliError('usage', 'rollout watch: -o is table or json')
  }
  await withCoordinator(cli, async connection => {
    const rollout = id ?? (await newestOpen(connection))
    const look = output === 'json' ? 'json' : watchLookOf(cli)
    exitForRollout(await followRollout(cli, connection, rollout, { look, timeoutMs: undefined }))
  })
}

async function newestOpen(connection: Connection): Promise<string> {
  const { rollouts } = await connection
    .service(RolloutService)
    .listRollouts({ open: true, limit: 1 }, connection.call)
  const [first] = rollouts
  if (first) return first.id
  throw new CliError('notFound', 'no rollout is under way; `muster rollout list` shows those that are over')
}

type Change = 'pause' | 'resume' | 'abort' | 'revert'

export async function changeRollout(
  cli: Cli,
  change: Change,
  id: string,
  options: Shown & {
    readonly why?: string | undefined
    readonly wait?: boolean | undefined
    readonly timeout?: number | undefined
  },
): Promise<void> {
  const { why = '' } = options
  await withCoordinator(cli, async connection => {
    const client = connection.service(RolloutService)
    const { call } = connection
    switch (change) {
      case 'pause':
        return await shown(cli, await client.pauseRollout({ id, why }, call), options)
      case 'resume':
        return await shown(cli, await client.resumeRollout({ id }, call), options)
      case 'abort':
        return await shown(cli, await client.abortRollout({ id, why }, call), options)
      case 'revert': {
        const { rollout } = await client.revertRollout({ id, why, requestId: randomId() }, call)
        if (!rollout) throw new CliError('error', 'the coordinator named no rollout')
        if (options.wait === false) return await showRolloutOnce(cli, rollout, '', options.output)
        cli.io.err(`rollout ${rollout.id} takes ${id} back\n`)
        return await showEnd(cli, connection, rollout.id, options)
      }
    }
  })
}

async function shown(
  cli: Cli,
  { rollout }: { readonly rollout?: Rollout | undefined },
  { output }: Shown,
): Promise<void> {
  if (rollout) await showRolloutOnce(cli, rollout, '', output)
}

/** Opens one gate for one host. */
export async function overrideGate(
  cli: Cli,
  id: string,
  host: string,
  gate: string,
  { why, output }: Shown & { readonly why: string },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const client = connection.service(RolloutService)
    await shown(cli, await client.overrideGate({ id, host, gate, why }, connection.call), { output })
  })
}

/** Lets rollouts begin again though the store is older than what nodes report. */
export async function acceptRestore(
  cli: Cli,
  { why, output }: Shown & { readonly why: string },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { accepted } = await connection.service(RolloutService).acceptRestore({ why }, connection.call)
    await showResult(cli.io, 'rollout accept', { accepted }, output, () =>
      accepted.map(line => `accepted: ${escapeText(line)}\n`).join(''),
    )
    cli.io.err('rollouts go on; what they had ordered of these is not known here\n')
  })
}
