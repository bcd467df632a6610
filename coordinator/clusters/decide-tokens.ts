import { isServer, type Join } from './cluster-record.ts'
import { belongs, type ClusterSnapshot, freshObservation, liveServers } from './cluster-snapshot.ts'
import type { Decision } from './decide-cluster.ts'
import { runsItsVersion } from './join-versions.ts'
import type { Waiting } from './reasons.ts'
import { isSpent } from './server-change.ts'
import type { Step } from './steps.ts'

/** How long a machine that says that it has joined may take until a server shows it Ready. */
export const PROVE_MS = 10 * 60_000
/** So long after its end a token is dead by itself, whatever clock the server goes by. */
const DEAD_BY_ITSELF_MS = 2 * 60 * 60_000

/** How joins end, and that the token of each is deleted whatever became of it. */
export function decideTokens(snapshot: ClusterSnapshot, now: number): Decision {
  const steps: Step[] = []
  const waiting: Waiting[] = []
  for (const join of snapshot.record.joins) {
    if (join.end === undefined) {
      const end = endOf(snapshot, join, now)
      if (end) steps.push({ kind: 'end-join', operation: join.operation, ...end })
      continue
    }
    const gone = snapshot.machines.get(join.machine)?.gone ?? true
    if (join.tokenGone || isDead(snapshot, join, now)) {
      if (gone || isSpent({ ...join, tokenGone: true }, snapshot.distribution)) {
        const why = join.tokenGone
          ? 'its token is gone'
          : 'its token is long over, and its minter is no server any more'
        steps.push({ kind: 'forget-join', operation: join.operation, why })
      }
      continue
    }
    const { operation, minter } = join
    const server = chooseDeleter(snapshot, join, now)
    if (server !== undefined && server !== join.deleter) {
      steps.push({ kind: 'delete-token', operation, server, why: `the join ended as ${join.end}` })
    } else {
      // Also one that was asked and does not come to it: what is out must be seen to be out.
      waiting.push({ host: join.host, reason: { gate: 'token-owed', operation, minter: server ?? minter } })
    }
  }
  return { steps, waiting }
}

function endOf(snapshot: ClusterSnapshot, join: Join, now: number) {
  const { machines, hosts } = snapshot
  const wanted = hosts.find(({ host }) => host === join.host)
  if (wanted?.machine !== join.machine || wanted.role !== join.role) {
    return { end: 'withdrawn', why: `${join.host} is another machine now, or has another role` } as const
  }
  if (machines.get(join.machine)?.gone) return { end: 'withdrawn', why: 'its machine was sent away' } as const
  if (join.state === 'joined') {
    if (isShown(snapshot, join, now))
      return { end: 'joined', why: 'a server shows it as Ready, with the version it has' } as const
    // Nobody will ever show what goes again, and until this join is over the host cannot come back.
    if (leaves(snapshot, join)) return { end: 'withdrawn', why: `${join.host} leaves again` } as const
    return now > (join.joinedMs ?? join.atMs) + PROVE_MS
      ? ({
          end: 'failed',
          why: 'it said that it has joined, and no server shows it as Ready with the version it has',
        } as const)
      : undefined
  }
  if (machines.get(join.minter)?.gone && join.state === 'asked') {
    return { end: 'failed', why: 'the server that was to mint was sent away' } as const
  }
  return now >= join.expiresMs
    ? ({ end: 'expired', why: 'the time of its token is over' } as const)
    : undefined
}

/** An operator sent the machine out of the cluster since it joined. */
function leaves({ record }: ClusterSnapshot, { host, machine }: Join): boolean {
  return (
    record.left.get(host) === machine ||
    record.leaves.some(leave => leave.machine === machine && leave.attempt !== undefined)
  )
}

/** Seen by a server after the machine said so: Ready with what its machine has, and of a server a healthy voter of the datastore. */
function isShown(snapshot: ClusterSnapshot, join: Join, now: number): boolean {
  return liveServers(snapshot, now).some(({ view, asOfMs }) => {
    if (asOfMs <= (join.joinedMs ?? now)) return false
    const node = view.nodes.find(({ name }) => name === join.host)
    const member = view.members.find(({ name }) => name === join.host)
    // A server without a kubelet has no Node.
    const nodeReady = join.role === 'server' && node === undefined ? true : (node?.ready ?? false)
    if (!runsItsVersion(join, freshObservation(snapshot, join.machine, now), node)) return false
    return nodeReady && (!isServer(join.role) || (member !== undefined && !member.learner && member.healthy))
  })
}

/** Its minter, whose journal knows what it minted; another server when the token has a name and the minter cannot. */
function chooseDeleter(snapshot: ClusterSnapshot, join: Join, now: number): string | undefined {
  const minter = freshObservation(snapshot, join.minter, now)
  if (minter && belongs(snapshot, minter.data)) return join.minter
  if (join.tokenId === undefined) return undefined
  const live = liveServers(snapshot, now)
  return live.find(({ machine }) => machine === join.deleter)?.machine ?? live[0]?.machine
}

/** Its minter is no server any more, so that nobody can be asked, and it has no time left. */
function isDead(snapshot: ClusterSnapshot, join: Join, now: number): boolean {
  if (now < join.expiresMs + DEAD_BY_ITSELF_MS) return false
  if (snapshot.machines.get(join.minter)?.gone ?? true) return true
  const minter = freshObservation(snapshot, join.minter, now)
  return minter !== undefined && !belongs(snapshot, minter.data)
}
