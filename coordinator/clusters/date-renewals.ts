import type { NodeObject, Observation, ServerView } from './cluster-snapshot.ts'

/**
 * What a server sees, with the instant of the coordinator's clock after which each lease was renewed: what a server showed in its answer
 * before was so when it was asked, so that another renewal is of later. Two answers are compared, and never two clocks.
 */
export function dateRenewals(
  view: ServerView,
  before: Pick<Observation, 'asOfMs' | 'view'> | undefined,
): ServerView {
  const known = new Map(before?.view?.nodes.map(node => [node.name, node]))
  const nodes = view.nodes.map((node): NodeObject => {
    const earlier = known.get(node.name)
    if (!before || earlier?.uid !== node.uid || node.renewedMs === undefined) return node
    const renewedAfterMs = earlier.renewedMs === node.renewedMs ? earlier.renewedAfterMs : before.asOfMs
    return { ...node, renewedAfterMs }
  })
  return { ...view, nodes }
}

/** The same without what changes with every renewal: that alone is no news. */
export function withoutRenewals(view: ServerView | undefined): ServerView | undefined {
  if (!view) return undefined
  const nodes = view.nodes.map(({ renewedMs: _, renewedAfterMs: __, ...node }) => node)
  return { ...view, nodes }
}
