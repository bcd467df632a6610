import { judgeTarget, KUBELET_MINORS_BEHIND } from '../../shared/kubernetes/judge-skew.ts'
import { minorsAhead, parseVersion, versionText } from '../../shared/kubernetes/version.ts'

export interface WantedMove {
  readonly host: string
  readonly server: boolean
  /** What this node runs or has; undefined: not known. */
  readonly from: string | undefined
  readonly to: string | undefined
  /** Of the API server; undefined: it could not be asked. Of no matter for a server. */
  readonly api: string | undefined
}

export type MoveVerdict =
  | { readonly kind: 'may'; readonly crosses: boolean; readonly warning: string | undefined }
  | { readonly kind: 'may not'; readonly reason: string }

const mayNot = (reason: string): MoveVerdict => ({ kind: 'may not', reason })

/**
 * Whether this node may go from one version to another now. A server goes one minor at a time and never back, and must know
 * both; a kubelet is never newer than the API server, and not too old for it.
 */
export function judgeMove({ host, server, from, to, api }: WantedMove): MoveVerdict {
  const [before, after] = [parseVersion(from ?? ''), parseVersion(to ?? '')]
  if (server) {
    if (!before)
      return mayNot(
        `which Kubernetes runs on this server cannot be told (${from ?? 'no answer'}): look whether it is well`,
      )
    if (!after)
      return mayNot('which Kubernetes it would be cannot be told: write version in [clusters] of fleet.toml')
    const [problem] = judgeTarget([{ host, version: before }], [], after)
    return problem
      ? mayNot(problem.reason)
      : { kind: 'may', crosses: minorsAhead(after, before) !== 0, warning: undefined }
  }
  const crosses = !before || !after || minorsAhead(after, before) !== 0
  const serving = parseVersion(api ?? '')
  if (!after || !serving) {
    const what = after ? 'which version the API server has' : 'which Kubernetes it would be'
    const warning = crosses
      ? `${what} cannot be told: that its kubelet is not newer was not checked`
      : undefined
    return { kind: 'may', crosses, warning }
  }
  const ahead = minorsAhead(after, serving)
  if (ahead > 0) {
    return mayNot(
      `the API server is ${versionText(serving)}, older than ${versionText(after)}: servers go first`,
    )
  }
  if (-ahead > KUBELET_MINORS_BEHIND) {
    return mayNot(
      `the API server is ${versionText(serving)}, more than ${KUBELET_MINORS_BEHIND} minors ahead of ${versionText(after)}`,
    )
  }
  return { kind: 'may', crosses, warning: undefined }
}
