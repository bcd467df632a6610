import { minorsAhead, type Version, versionText } from './version.ts'

/** A host and the Kubernetes that runs on it. */
export interface Running {
  readonly host: string
  readonly version: Version
}

export type SkewRule =
  | 'downgrade'
  | 'skipped-minor'
  | 'servers-apart'
  | 'kubelet-newer'
  | 'kubelet-older'
  | 'servers-first'
  | 'old-datastore'

export interface SkewProblem {
  readonly rule: SkewRule
  readonly host: string
  readonly reason: string
  /** Whose version stands against the move of another host. */
  readonly beside?: string
}

/** As many minors a kubelet may be behind the API servers. */
export const KUBELET_MINORS_BEHIND = 3

/**
 * What stands in the way of bringing a whole cluster to a version: servers never go back a minor and never skip one, and
 * no kubelet may be left further behind than the new API servers bear. Empty: nothing.
 */
export function judgeTarget(
  servers: readonly Running[],
  workers: readonly Running[],
  to: Version,
): SkewProblem[] {
  const problems: SkewProblem[] = []
  for (const { host, version } of servers) {
    const ahead = minorsAhead(to, version)
    if (ahead < 0) {
      problems.push({
        rule: 'downgrade',
        host,
        reason: `${host} runs ${versionText(version)}; its datastore does not go back to ${versionText(to)}: restore a snapshot`,
      })
    } else if (ahead > 1) {
      problems.push({
        rule: 'skipped-minor',
        host,
        reason: `${host} runs ${versionText(version)}; go to ${version.major}.${version.minor + 1} before ${versionText(to)}`,
      })
    }
  }
  for (const { host, version } of workers) {
    const behind = minorsAhead(to, version)
    if (behind > KUBELET_MINORS_BEHIND) {
      problems.push({
        rule: 'kubelet-older',
        host,
        reason: `${host} runs ${versionText(version)}, more than ${KUBELET_MINORS_BEHIND} minors behind ${versionText(to)}: move it first`,
      })
    } else if (behind < 0) {
      problems.push({
        rule: 'kubelet-newer',
        host,
        reason: `${host} runs ${versionText(version)}, newer than ${versionText(to)} would be`,
      })
    }
  }
  return problems
}

/**
 * What stands in the way of bringing one host to a version now, while the others run what they run. A server may run at
 * most one minor apart from any other; a kubelet is never newer than the oldest API server.
 */
export function judgeMove(
  host: string,
  isServer: boolean,
  to: Version,
  servers: readonly Running[],
  workers: readonly Running[],
): SkewProblem[] {
  const others = servers.filter(each => each.host !== host)
  const problem = (rule: SkewRule, beside: string, reason: string): SkewProblem => ({
    rule,
    host,
    reason,
    beside,
  })
  const at = versionText(to)
  if (isServer) {
    const own = servers.filter(each => each.host === host)
    const problems = judgeTarget(own, workers, to).filter(({ rule }) => rule !== 'kubelet-newer')
    for (const other of others) {
      const apart = minorsAhead(to, other.version)
      if (Math.abs(apart) > 1) {
        problems.push(
          problem(
            'servers-apart',
            other.host,
            `${other.host} runs ${versionText(other.version)}, more than a minor from ${at}`,
          ),
        )
      }
    }
    // An API server that is older than a kubelet does not serve it.
    for (const worker of workers) {
      if (minorsAhead(worker.version, to) > 0) {
        problems.push(
          problem(
            'kubelet-newer',
            worker.host,
            `${worker.host} runs ${versionText(worker.version)}, newer than ${at}`,
          ),
        )
      }
    }
    return problems
  }
  const problems: SkewProblem[] = []
  for (const server of others) {
    if (minorsAhead(to, server.version) > 0) {
      problems.push(
        problem(
          'kubelet-newer',
          server.host,
          `${server.host} runs ${versionText(server.version)}, older than ${at}: servers go first`,
        ),
      )
    }
    if (minorsAhead(server.version, to) > KUBELET_MINORS_BEHIND) {
      problems.push(
        problem(
          'kubelet-older',
          server.host,
          `${server.host} runs ${versionText(server.version)}, more than ${KUBELET_MINORS_BEHIND} minors from ${at}`,
        ),
      )
    }
  }
  return problems
}

/**
 * What stands in the way of a host that joins with a version while the others run what they run. The same as of a move, and a server that is
 * a minor behind all others would read a datastore that has moved on.
 */
export function judgeJoin(
  host: string,
  isServer: boolean,
  version: Version,
  servers: readonly Running[],
  workers: readonly Running[],
): SkewProblem[] {
  const others = servers.filter(each => each.host !== host)
  const kubelets = workers.filter(each => each.host !== host)
  const problems = judgeMove(host, isServer, version, others, kubelets)
  const [other] = others
  if (isServer && other && others.every(each => minorsAhead(each.version, version) > 0)) {
    const reason = `every server is newer than ${versionText(version)}, as ${other.host} is with ${versionText(other.version)}: move ${host} first`
    problems.push({ rule: 'downgrade', host, reason, beside: other.host })
  }
  return problems
}

export type ReturnVerdict = { readonly may: true } | { readonly may: false; readonly reason: string }

/**
 * Whether a server may go back by itself to what ran before. Not across a minor that has started: its datastore may have
 * moved on, and an older API server does not read what a newer one wrote. What has started is unknown: it has.
 */
export function judgeReturn(input: {
  readonly server: boolean
  /** What is left; undefined: not known. */
  readonly from: Version | undefined
  /** What it would go back to; undefined: not known. */
  readonly to: Version | undefined
  /** Whether the new one was started, even once; undefined: not known. */
  readonly started: boolean | undefined
}): ReturnVerdict {
  const { server, from, to, started } = input
  if (!server || started === false) return { may: true }
  if (!from || !to) {
    return {
      may: false,
      reason:
        'it is not known which Kubernetes this server would go back across; look, and restore a snapshot',
    }
  }
  return minorsAhead(to, from) >= 0
    ? { may: true }
    : {
        may: false,
        reason: `Kubernetes ${versionText(from)} has started on this server, and its datastore does not go back to ${versionText(to)}: mend it, or restore a snapshot`,
      }
}
