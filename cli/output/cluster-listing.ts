import {
  type CertificateList,
  type ClusterHost,
  ClusterHostSchema,
  ClusterRole,
  ClusterStanding,
  type ClusterSummary,
  ClusterSummarySchema,
  type DatastoreSnapshot,
  DatastoreSnapshotSchema,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { millisOf } from '../../shared/time.ts'
import { formatBytes, formatDuration } from '../duration.ts'
import type { Style } from './colour.ts'
import { ago, shortId } from './machine-listing.ts'
import { plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'

export const CLUSTER_FIELDS = [
  'name',
  'distribution',
  'standing',
  'authority',
  'firstServer',
  'voters',
  'healthyVoters',
  'hosts',
  'joined',
] as const
export const CLUSTER_HOST_FIELDS = [
  'host',
  'machine',
  'role',
  'joined',
  'version',
  'waitsFor',
  'ready',
  'withoutNode',
  'cordonedBy',
  'cordonedByOthers',
] as const
export const SNAPSHOT_FIELDS = ['host', 'name', 'path', 'bytes', 'made'] as const
export const CERTIFICATE_FIELDS = ['host', 'path', 'subject', 'notAfter', 'authority'] as const

/** A certificate that ends sooner is one to look at: most are made for a year. */
const ENDS_SOON_MS = 30 * 86_400_000

export function standingWord(standing: ClusterStanding): string {
  switch (standing) {
    case ClusterStanding.NEW:
      return 'new'
    case ClusterStanding.FOUNDING:
      return 'founding'
    case ClusterStanding.FOUNDED:
      return 'founded'
    case ClusterStanding.TO_ADOPT:
      return 'to adopt'
    case ClusterStanding.UNSPECIFIED:
      return ''
    default:
      return '' // one that a newer coordinator knows
  }
}

export function standingStyle({ standing }: ClusterSummary): Style {
  return standing === ClusterStanding.FOUNDED
    ? 'good'
    : standing === ClusterStanding.TO_ADOPT
      ? 'warn'
      : 'plain'
}

export function roleWord(role: ClusterRole): string {
  switch (role) {
    case ClusterRole.SERVER:
      return 'server'
    case ClusterRole.WORKER:
      return 'worker'
    case ClusterRole.SERVER_AND_WORKER:
      return 'server+worker'
    case ClusterRole.UNSPECIFIED:
      return ''
    default:
      return ''
  }
}

export function isServerRole(role: ClusterRole): boolean {
  return role === ClusterRole.SERVER || role === ClusterRole.SERVER_AND_WORKER
}

/** Empty: what the datastore says is not known. */
export function votersText({ voters, healthyVoters }: ClusterSummary): string {
  return voters === 0 ? '' : `${healthyVoters} of ${voters} healthy`
}

export function votersStyle({ voters, healthyVoters }: ClusterSummary): Style {
  if (voters === 0) return 'dim'
  if (healthyVoters === voters) return 'good'
  return healthyVoters * 2 > voters ? 'warn' : 'bad'
}

export const clusterListing: Listing<ClusterSummary> = {
  fields: CLUSTER_FIELDS,
  record: cluster => plainOf(ClusterSummarySchema, cluster),
  empty: 'no clusters; `[clusters.NAME]` in fleet.toml makes one, once it is published',
  columns: [
    { title: 'CLUSTER', text: cluster => cluster.name },
    { title: 'DISTRIBUTION', text: cluster => cluster.distribution },
    { title: 'STANDING', text: cluster => standingWord(cluster.standing), style: standingStyle },
    { title: 'JOINED', text: ({ joined, hosts }) => `${joined} of ${hosts}` },
    { title: 'VOTERS', text: votersText, style: votersStyle },
    { title: 'FIRST SERVER', text: cluster => cluster.firstServer },
    { title: 'AUTHORITY', wide: true, text: cluster => cluster.authority },
  ],
}

/** Empty: it has no node that a server sees, or none is known. */
function nodeText(host: ClusterHost): string {
  if (!host.joined) return ''
  // Its own API server speaks for it.
  if (host.withoutNode) return host.ready ? 'none' : 'none, API server not ready'
  return `${host.ready ? 'ready' : 'not ready'}${cordonText(host)}`
}

function cordonText({ cordonedBy, cordonedByOthers }: ClusterHost): string {
  if (cordonedByOthers) return ', cordoned by others'
  return cordonedBy === '' ? '' : ', cordoned'
}

function nodeStyle(host: ClusterHost): Style {
  if (!host.joined) return 'plain'
  return host.ready ? (cordonText(host) === '' ? 'good' : 'warn') : 'bad'
}

/** A server of k0s has no Node; those of the others have one, and be it for the control plane alone. */
export function hasNode(distribution: string, role: ClusterRole): boolean {
  return distribution !== 'k0s' || role !== ClusterRole.SERVER
}

export const clusterHostListing = (distribution: string): Listing<ClusterHost> => ({
  fields: CLUSTER_HOST_FIELDS,
  record: host => plainOf(ClusterHostSchema, host),
  empty: 'no hosts',
  columns: [
    { title: 'HOST', wraps: true, text: ({ host }) => host },
    { title: 'ROLE', text: ({ role }) => roleWord(role) },
    {
      title: 'JOINED',
      text: ({ joined }) => (joined ? 'yes' : 'no'),
      style: ({ joined }) => (joined ? 'good' : 'plain'),
    },
    {
      title: 'NODE',
      wraps: true,
      text: host => (host.withoutNode || hasNode(distribution, host.role) ? nodeText(host) : ''),
      style: nodeStyle,
    },
    { title: 'VERSION', text: ({ version }) => version },
    { title: 'MACHINE', text: ({ machine }) => (machine === '' ? '' : shortId(machine)) },
    { title: 'WAITS FOR', wraps: true, text: ({ waitsFor }) => waitsFor.join('; '), style: () => 'warn' },
  ],
})

/** A snapshot, and the server it lies on. */
export interface HostSnapshot {
  readonly host: string
  readonly snapshot: DatastoreSnapshot
}

export function snapshotListing(now: Date): Listing<HostSnapshot> {
  return {
    fields: SNAPSHOT_FIELDS,
    record: ({ host, snapshot }) => ({ host, ...plainOf(DatastoreSnapshotSchema, snapshot) }),
    empty: 'no snapshots; `muster cluster snapshot NAME` makes one',
    columns: [
      { title: 'HOST', text: ({ host }) => host },
      { title: 'SNAPSHOT', text: ({ snapshot }) => snapshot.name },
      { title: 'AGE', text: ({ snapshot }) => ago(millisOf(snapshot.made), now.getTime()) },
      { title: 'SIZE', text: ({ snapshot }) => formatBytes(Number(snapshot.bytes)) },
      { title: 'PATH', wide: true, text: ({ snapshot }) => snapshot.path },
    ],
  }
}

/** A certificate, and the host it is on. */
export interface HostCertificate {
  readonly host: string
  readonly certificate: CertificateList['certificates'][number]
}

export function certificateListing(now: Date): Listing<HostCertificate> {
  const left = ({ certificate }: HostCertificate) => (millisOf(certificate.notAfter) ?? 0) - now.getTime()
  return {
    fields: CERTIFICATE_FIELDS,
    record: ({ host, certificate: { path, subject, notAfter, authority } }) => {
      const end = millisOf(notAfter)
      return {
        host,
        path,
        subject,
        authority,
        notAfter: end === undefined ? null : new Date(end).toISOString(),
      }
    },
    empty: 'no certificates',
    columns: [
      { title: 'HOST', text: ({ host }) => host },
      {
        title: 'ENDS',
        text: row =>
          left(row) > 0 ? `in ${formatDuration(left(row))}` : `${formatDuration(-left(row))} ago`,
        style: row => (left(row) <= 0 ? 'bad' : left(row) < ENDS_SOON_MS ? 'warn' : 'plain'),
      },
      { title: 'AUTHORITY', text: ({ certificate }) => (certificate.authority ? 'yes' : '') },
      { title: 'SUBJECT', wraps: true, text: ({ certificate }) => certificate.subject },
      { title: 'PATH', wraps: true, text: ({ certificate }) => certificate.path },
    ],
  }
}
