import { type MachineDrift, MachineDriftSchema } from '../../shared/gen/muster/v1/drift_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Style } from './colour.ts'
import { ago, shortId } from './machine-listing.ts'
import { plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'

export const DRIFT_FIELDS = [
  'host',
  'machine',
  'state',
  'changedBy',
  'reason',
  'remedy',
  'booted',
  'current',
  'profile',
  'wantedRevision',
  'wanted',
  'operationId',
  'reachedRevision',
  'told',
] as const

const STYLES: Readonly<Record<string, Style>> = {
  'in-sync': 'good',
  drifted: 'bad',
  unknown: 'warn',
  behind: 'warn',
  'reboot-pending': 'warn',
}

/** Without the store's folder and hash, which nobody compares by eye. */
const nameOf = (path: string) => path.replace(/^\/nix\/store\/[0-9a-z]{32}-/, '')

export function driftListing(now: Date): Listing<MachineDrift> {
  return {
    fields: DRIFT_FIELDS,
    record: machine => plainOf(MachineDriftSchema, machine),
    empty: 'no machines',
    columns: [
      { title: 'HOST', wraps: true, text: ({ host, machine }) => host || shortId(machine) },
      {
        title: 'STATE',
        wraps: true,
        text: ({ state }) => state,
        style: ({ state }) => STYLES[state] ?? 'plain',
      },
      { title: 'CHANGED BY', text: ({ changedBy }) => changedBy },
      { title: 'TOLD', text: ({ told }) => ago(millisOf(told), now.getTime()) },
      {
        title: 'REVISION',
        wide: true,
        text: ({ reachedRevision }) => (reachedRevision === 0n ? '' : String(reachedRevision)),
      },
      {
        title: 'WANTED',
        wide: true,
        text: ({ wantedRevision }) => (wantedRevision === 0n ? '' : String(wantedRevision)),
      },
      { title: 'RUNS', wide: true, text: ({ current }) => nameOf(current) },
      { title: 'BOOTED', wide: true, text: ({ booted }) => nameOf(booted) },
      { title: 'DEFAULT', wide: true, text: ({ profile }) => nameOf(profile) },
      { title: 'REASON', wraps: true, text: ({ reason }) => reason },
      { title: 'REMEDY', wraps: true, text: ({ remedy }) => remedy },
    ],
  }
}
