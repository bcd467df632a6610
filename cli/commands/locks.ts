import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { escapeText } from '../../shared/escape.ts'
import { RolloutService } from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import type { Format } from '../output/format.ts'
import { type LockOrPin, lockListing } from '../output/rollout-listing.ts'
import { showList } from '../output/show-list.ts'
import { showResult } from '../output/show-result.ts'
import { NEWEST } from '../revision-number.ts'

interface Shown {
  readonly output?: Format | undefined
}

/** Makes rollouts pass a host by. */
export async function lockHost(
  cli: Cli,
  host: string,
  { why, output }: Shown & { readonly why: string },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    await connection.service(RolloutService).lockHost({ host, why }, connection.call)
    const text = () =>
      `${escapeText(host)} is locked: rollouts pass it by until \`muster unlock ${escapeText(host)}\`\n`
    await showResult(cli.io, 'lock', { kind: 'lock', host, why }, output, text)
  })
}

export async function unlockHost(cli: Cli, host: string, { output }: Shown): Promise<void> {
  await withCoordinator(cli, async connection => {
    await connection.service(RolloutService).unlockHost({ host }, connection.call)
    const text = () => `${escapeText(host)} is not locked any more\n`
    await showResult(cli.io, 'unlock', { kind: 'lock', host, removed: true }, output, text)
  })
}

/** Keeps a host at a revision for a time. */
export async function pinHost(
  cli: Cli,
  host: string,
  revision: number,
  { why, until, output }: Shown & { readonly why: string; readonly until: Date },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    // A host is kept at what is the newest as this is said, not at what comes later.
    const fleet = revision === NEWEST ? await connection.client.getFleet({}, connection.call) : undefined
    const number = fleet?.revision ?? BigInt(revision)
    const request = { host, revision: number, why, until: timestampFromMs(until.getTime()) }
    await connection.service(RolloutService).pinHost(request, connection.call)
    const end = until.toISOString()
    const text = () => `${escapeText(host)} is kept at revision ${number} until ${end}\n`
    await showResult(
      cli.io,
      'pin',
      { kind: 'pin', host, revision: Number(number), until: end, why },
      output,
      text,
    )
  })
}

export async function unpinHost(cli: Cli, host: string, { output }: Shown): Promise<void> {
  await withCoordinator(cli, async connection => {
    await connection.service(RolloutService).unpinHost({ host }, connection.call)
    const text = () => `${escapeText(host)} is not pinned any more\n`
    await showResult(cli.io, 'unpin', { kind: 'pin', host, removed: true }, output, text)
  })
}

export async function listLocks(
  cli: Cli,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { locks, pins } = await connection.service(RolloutService).listLocks({}, connection.call)
    const rows: readonly LockOrPin[] = [
      ...locks.map(lock => ({ kind: 'lock', lock }) as const),
      ...pins.map(pin => ({ kind: 'pin', pin }) as const),
    ]
    await showList(cli.io, rows, lockListing(cli.clock.now()), output)
  })
}
