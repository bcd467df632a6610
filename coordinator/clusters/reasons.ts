/** Why nothing is done for a host or a cluster: data, which `describeReason` says in words. */
export type Reason =
  | { readonly gate: 'unbound' }
  | { readonly gate: 'away' }
  | { readonly gate: 'occupied' }
  | { readonly gate: 'unknown-state' }
  | { readonly gate: 'no-part'; readonly part: string }
  | { readonly gate: 'unkeyed'; readonly host: string }
  | { readonly gate: 'server-unknown'; readonly host: string }
  | { readonly gate: 'adopt-first'; readonly host: string }
  | { readonly gate: 'foreign-data'; readonly authority: string }
  | { readonly gate: 'unreadable-data'; readonly reason: string }
  | { readonly gate: 'unfinished-data'; readonly operation: string }
  | { readonly gate: 'founding'; readonly host: string }
  | { readonly gate: 'founder-away'; readonly host: string; readonly machine: string }
  | { readonly gate: 'founder-data'; readonly host: string }
  | {
      readonly gate: 'backing-off'
      readonly untilMs: number
      readonly failures: number
      /** Why the last one failed; empty: nobody said. */
      readonly why: string
      /** Whose join it is that an operator may have tried at once; undefined: it is something else. */
      readonly host?: string
    }
  | { readonly gate: 'joining'; readonly operation: string }
  | { readonly gate: 'leaving' }
  | { readonly gate: 'left' }
  /** `lost`: the cluster by name, where none is left that could come back by itself. */
  | { readonly gate: 'no-server'; readonly lost?: string }
  | { readonly gate: 'recount' }
  | { readonly gate: 'server-change'; readonly host: string; readonly operation: string }
  | {
      readonly gate: 'quorum'
      readonly voters: number
      readonly healthy: number
      readonly unhealthy: readonly string[]
    }
  | { readonly gate: 'learner'; readonly name: string }
  | { readonly gate: 'quorum-after'; readonly voters: number; readonly healthy: number }
  | { readonly gate: 'last-server' }
  | { readonly gate: 'name-in-use'; readonly host: string }
  | { readonly gate: 'is-a-server'; readonly host: string }
  | { readonly gate: 'leftovers'; readonly host: string }
  | { readonly gate: 'member-alive'; readonly host: string }
  | { readonly gate: 'not-a-member'; readonly host: string }
  | { readonly gate: 'set-back'; readonly host: string }
  /** `member`: its member is still in the datastore; `out`: it is not; undefined: nobody can say. */
  | {
      readonly gate: 'lost-datastore'
      readonly host: string
      readonly path: string
      readonly standing?: 'member' | 'out' | undefined
    }
  | {
      readonly gate: 'snapshot-found'
      readonly cluster: string
      readonly host: string
      readonly name: string
    }
  | { readonly gate: 'not-ready' }
  | { readonly gate: 'no-node'; readonly host: string }
  | { readonly gate: 'version'; readonly reason: string }
  | { readonly gate: 'version-unknown'; readonly host: string }
  | { readonly gate: 'slots'; readonly limit: number }
  | { readonly gate: 'token-owed'; readonly operation: string; readonly minter: string }
  | { readonly gate: 'halted'; readonly why: string }

export interface Waiting {
  /** Empty: the cluster as a whole. */
  readonly host: string
  readonly reason: Reason
}

/** One sentence for people: what is waited for and, where somebody must act, what to do. */
export function describeReason(reason: Reason): string {
  switch (reason.gate) {
    case 'unbound':
      return 'no machine is bound to it'
    case 'away':
      return 'its machine is not connected'
    case 'occupied':
      return 'its machine is held, or something else is being done to it'
    case 'unknown-state':
      return 'its machine has not said in time what it has on its disk'
    case 'no-part':
      return reason.part === ''
        ? 'its system has no Kubernetes part yet: apply the revision'
        : `its running system is made for cluster ${reason.part}: apply the revision`
    case 'unkeyed':
      return `the revision does not name the key of ${reason.host}'s machine, so no node would trust it as a server: \`muster bind --all\`, then publish`
    case 'server-unknown':
      return `${reason.host} is a server and has never said whether it has data of a cluster: connect it, or unbind it`
    case 'adopt-first':
      return `${reason.host} has data of a running cluster: adopt it; until then nothing is founded, joined or wiped`
    case 'foreign-data':
      return `it has data of another cluster (authority ${reason.authority.slice(0, 12)}); nothing is done to it`
    case 'unreadable-data':
      return `what it has on its disk cannot be told: ${reason.reason}`
    case 'unfinished-data':
      return `it has what operation ${reason.operation} left, which is not known here; look at its journal`
    case 'founding':
      return `${reason.host} is founding the cluster`
    case 'founder-away':
      return `${reason.host} was told to found the cluster and has not answered; if machine ${reason.machine.slice(0, 12)} is gone for good, evict it`
    case 'founder-data':
      return `founding failed on ${reason.host}, and it has not said that nothing is left on its disk`
    case 'backing-off':
      return `it failed ${reason.failures === 1 ? 'once' : `${reason.failures} times`}${reason.why === '' ? '' : ` (${reason.why})`}, and is tried again at ${new Date(reason.untilMs).toISOString()}${reason.host === undefined ? '' : `; \`muster rejoin ${reason.host}\` tries it at once`}`
    case 'joining':
      return `it is joining (operation ${reason.operation})`
    case 'leaving':
      return 'it is leaving'
    case 'left':
      return 'it left by an operator’s word'
    case 'no-server':
      return reason.lost === undefined
        ? 'no server of the cluster is connected, ready and free'
        : `no server of the cluster is connected that has its data: bring one back; where all are lost for good, put a snapshot on a machine that was installed anew, and \`muster cluster restore ${reason.lost} SNAPSHOT --on HOST\``
    case 'recount':
      return 'the members of the datastore are counted anew after the last change'
    case 'server-change':
      return `${reason.host} is changing the servers (operation ${reason.operation}); one does at a time`
    case 'quorum':
      return `${reason.healthy} of ${reason.voters} voters are healthy; ${reason.unhealthy.join(', ')} ${reason.unhealthy.length === 1 ? 'is' : 'are'} not`
    case 'learner':
      return `member ${reason.name || 'without a name'} of the datastore has not become a voter yet`
    case 'quorum-after':
      return `of the ${reason.voters} voters that would be left ${reason.healthy} are healthy, which is no quorum`
    case 'last-server':
      return 'it is the last server; a cluster ends by its own order, not by leaving'
    case 'name-in-use':
      return `another machine runs as ${reason.host}: stop it, or give this one another name`
    case 'is-a-server':
      return `${reason.host} is a member of the datastore, and was to leave as a worker: order it anew`
    case 'leftovers':
      return `the cluster still knows an older ${reason.host}, which is taken away first`
    case 'member-alive':
      return `${reason.host} is said to be gone, and its member of the datastore is healthy`
    case 'not-a-member':
      return `it has data of the cluster and is no member of its datastore any more: \`muster rejoin ${reason.host} --wipe\` has it wiped and join anew`
    case 'set-back':
      return `it has data of the cluster from before that was set back to a snapshot, and is told to stop: \`muster rejoin ${reason.host} --wipe\` has it wiped and join anew`
    case 'lost-datastore':
      return describeLost(reason)
    case 'snapshot-found':
      return `${reason.host} has snapshot ${reason.name} of the cluster: go back to it (\`muster cluster restore ${reason.cluster} ${reason.name} --on ${reason.host}\`), or take it away; until then nothing is founded`
    case 'not-ready':
      return 'it has joined, and its node is not Ready'
    case 'no-node':
      return `it has joined, and the cluster has no Node of its name, so that no pod comes to it; its kubelet makes one when it starts: \`muster-agent restart\` on that machine, or \`muster leave ${reason.host}\`, then \`muster rejoin ${reason.host}\``
    case 'version':
      return `its Kubernetes does not fit the cluster: ${reason.reason}`
    case 'version-unknown':
      return `nobody can say which Kubernetes ${reason.host} has; an agent of an older version does not tell`
    case 'slots':
      return `${reason.limit} machines are joining, which is as many as the distribution bears`
    case 'halted':
      return `nobody founds, joins or is cleared away meanwhile: ${reason.why}`
    case 'token-owed':
      return `the token of operation ${reason.operation} is not shown to be deleted on ${reason.minter.slice(0, 12)}`
  }
}

function describeLost({ host, path, standing }: Extract<Reason, { gate: 'lost-datastore' }>): string {
  const what = `it has been a server, and its datastore ${path} is gone (if only a disk is not mounted, mount it)`
  const wiped = `\`muster rejoin ${host} --wipe\` has it wiped and join anew`
  switch (standing) {
    case 'member':
      return `${what}: \`muster leave ${host} --dead\` has another server take its member out; then ${wiped}`
    case 'out':
      return `${what}, and it is no member any more: ${wiped}`
    case undefined:
      return `${what}: nothing is done to it before a server with a majority says whether it is a member; where none is left, go back to a snapshot`
  }
}
