import { escapeText } from '../../shared/escape.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import {
  type PlannedHost,
  type RolloutHost,
  RolloutHostState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { parseVersion, versionText } from '../../shared/kubernetes/version.ts'
import type { Cli } from '../cli.ts'
import { fetchCluster } from '../clusters/find-place.ts'
import {
  chooseWay,
  planUpgrade,
  type UpgradeLine,
  type UpgradePlan,
  versionProblem,
} from '../clusters/plan-upgrade.ts'
import { findOpenRollout, startRollout } from '../clusters/upgrade-rollout.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import type { FleetKnowledge } from '../fleets/fleet-folder.ts'
import { fetchRevision } from '../fleets/known-revision.ts'
import { openFleet } from '../fleets/open-fleet.ts'
import { versionPlace } from '../fleets/version-place.ts'
import type { Style } from '../output/colour.ts'
import type { Format } from '../output/format.ts'
import { type Listing, showList } from '../output/show-list.ts'
import { exitForRollout, followRollout, lookOf } from '../rollouts/follow-rollout.ts'
import { hostWords } from '../rollouts/rollout-words.ts'

export interface UpgradeOptions {
  readonly dryRun?: boolean | undefined
  readonly directory?: string | undefined
  readonly timeout: number
  readonly output?: Format | undefined
}

export const UPGRADE_FIELDS = ['turn', 'host', 'role', 'from', 'to', 'state', 'waits'] as const

interface Row extends UpgradeLine {
  readonly to: string
  readonly waits: readonly string[]
}

/** Moves a cluster to the version that the newest revision names, by a rollout. Asked again it follows what is under way. */
export async function upgradeCluster(
  cli: Cli,
  cluster: string,
  asked: string,
  options: UpgradeOptions,
): Promise<void> {
  const to = parseVersion(asked)
  if (!to) throw new CliError('usage', `${escapeText(asked)}: must be a version of Kubernetes such as 1.35.4`)
  await withCoordinator(cli, async connection => {
    const fleet = await openFleet(cli, connection)
    const { revision, targets } = await newestWith(
      connection,
      fleet,
      cluster,
      asked,
      options.directory ?? '.',
    )
    const way = chooseWay(cluster, targets)
    if (way.kind === 'refused') throw new CliError('refused', way.reason)
    const intent = {
      action: way.action,
      revision: BigInt(revision),
      why: `Kubernetes ${versionText(to)} for ${cluster}`,
    }
    const open = await findOpenRollout(connection, cluster, intent.action, intent.revision)
    const view = await fetchCluster(connection, cluster)
    const { firstServer, distribution } = view.summary
    const plan = planUpgrade(view.hosts, firstServer, to, way.action === 'upgrade', distribution)
    const refs = plan.lines.filter(({ turn }) => turn > 0).map(({ host }) => host)
    const rows = (planned: readonly Held[]) => rowsOf(plan, versionText(to), planned)

    if (!open && (plan.problems.length > 0 || refs.length === 0)) {
      await showList(cli.io, rows([]), upgradeListing, options.output)
      if (plan.problems.length > 0) throw new CliError('refused', problemText(cluster, plan))
      cli.io.err(`cluster ${cluster}: every host that has joined runs ${versionText(to)}\n`)
      return
    }
    if (options.dryRun) {
      const planned = open
        ? open.hosts.map(({ host, waits }) => ({ host, waits: waits.map(({ reason }) => reason) }))
        : (await startRollout(cli, connection, { ...intent, refs, requestId: randomId(), dryRun: true }))
            .order
      await showList(cli.io, rows(planned), upgradeListing, options.output)
      cli.io.err(
        open
          ? `rollout ${escapeText(open.id)} of ${escapeText(open.startedBy)} does this already\n`
          : 'nothing was moved (--dry-run)\n',
      )
      return
    }
    if (open) {
      const who = `rollout ${escapeText(open.id)} of ${escapeText(open.startedBy)}`
      cli.io.err(`${who} does this already; it is followed\n`)
    }
    const rollout =
      open ?? (await startRollout(cli, connection, { ...intent, refs, requestId: randomId() })).rollout
    if (!rollout) throw new CliError('error', 'the coordinator told nothing of the rollout it began')
    const look = lookOf(cli)
    const ended = await followRollout(cli, connection, rollout.id, { look, timeoutMs: options.timeout })
    await showList(cli.io, moved(rows([]), ended.hosts), upgradeListing, options.output)
    exitForRollout(ended)
  })
}

/** The newest revision, by this operator's own check, if it names the version for the cluster. */
async function newestWith(
  connection: Connection,
  fleet: FleetKnowledge,
  cluster: string,
  asked: string,
  dir: string,
): Promise<{ readonly revision: number; readonly targets: readonly Target[] }> {
  const newest = await fetchRevision(connection, fleet, 0)
  const named = newest?.manifest.clusters.get(cluster)
  if (!newest || !named) {
    throw new CliError(
      'notFound',
      `${escapeText(cluster)}: the newest revision names no such cluster; \`muster clusters\` lists them`,
    )
  }
  const to = parseVersion(asked)
  const place = await versionPlace(dir, fleet.fleetId, cluster)
  const { number: revision } = newest.manifest
  const problem = to && versionProblem(cluster, to, { revision, version: named.version, place })
  if (problem !== undefined) throw new CliError('refused', problem)
  return { revision, targets: newest.targets }
}

function problemText(cluster: string, { problems }: UpgradePlan): string {
  return [`cluster ${cluster}: nothing was moved:`, ...problems.map(problem => `  ${problem}`)]
    .map(escapeText)
    .join('\n')
}

type Held = Pick<PlannedHost, 'host' | 'waits'> & { readonly wave?: number }

function rowsOf({ lines }: UpgradePlan, to: string, planned: readonly Held[]): Row[] {
  const rows = lines.map(line => {
    const { waits = [], wave = 0 } = planned.find(({ host }) => host === line.host) ?? {}
    // The coordinator knows who leads the datastore.
    return { ...line, turn: wave > 0 ? wave : line.turn, to, waits }
  })
  const place = ({ turn }: Row) => (turn === 0 ? Number.MAX_SAFE_INTEGER : turn)
  return rows.toSorted((a, b) => place(a) - place(b))
}

/** As the rollout left them: what machines last said of themselves may be older than its end. */
function moved(rows: readonly Row[], hosts: readonly RolloutHost[]): Row[] {
  return rows.map(row => {
    const host = hosts.find(each => each.host === row.host)
    if (!host) return row
    return host.state === RolloutHostState.DONE
      ? { ...row, turn: 0, state: 'there' }
      : { ...row, waits: [hostWords(host)] }
  })
}

const STYLES: Readonly<Record<UpgradeLine['state'], Style>> = {
  there: 'good',
  moves: 'plain',
  new: 'plain',
  unknown: 'warn',
  away: 'dim',
}

const WORDS: Readonly<Record<UpgradeLine['state'], string>> = {
  there: 'runs it',
  moves: 'moves',
  new: 'is prepared to join',
  unknown: 'not known',
  away: 'has not joined',
}

const upgradeListing: Listing<Row> = {
  fields: UPGRADE_FIELDS,
  record: ({ turn, host, server, from, to, state, waits }) => ({
    turn,
    host,
    role: server ? 'server' : 'worker',
    from: from ?? null,
    to,
    state,
    waits,
  }),
  empty: 'no hosts',
  columns: [
    { title: 'TURN', text: ({ turn }) => (turn > 0 ? String(turn) : '') },
    { title: 'HOST', text: ({ host }) => host },
    { title: 'ROLE', text: ({ server }) => (server ? 'server' : 'worker') },
    { title: 'FROM', text: ({ from }) => from ?? '' },
    { title: 'TO', text: ({ to }) => to },
    { title: 'STATE', text: ({ state }) => WORDS[state], style: ({ state }) => STYLES[state] },
    { title: 'WAITS FOR', wraps: true, text: ({ waits }) => waits.join('; '), style: () => 'warn' },
  ],
}
