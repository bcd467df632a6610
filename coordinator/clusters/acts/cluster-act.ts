/** What an operator can ask for. */
export const ACT_WORDS = [
  'drain',
  'cordon',
  'uncordon',
  'leave',
  'return',
  'snapshot',
  'snapshots',
  'restore',
  'rotate',
  'kubeconfig',
  'certificates',
  'manifests',
  'wipe',
] as const
export type AskedWord = (typeof ACT_WORDS)[number]
/** `adopt` follows from an adoption, for each of its machines; `stand-down` from a restore, for each server that came back. */
export const OWN_WORDS = ['adopt', 'stand-down'] as const
export type ActWord = AskedWord | (typeof OWN_WORDS)[number]

/** An act as it is written down. Immutable: a change is a new one. Times in milliseconds since 1970. */
export interface ClusterAct {
  readonly id: string
  /** Who asked and for what, once. */
  readonly request: string
  readonly intent: string
  readonly cluster: string
  readonly act: ActWord
  /** What it is about; empty: the cluster. */
  readonly host: string
  readonly machine: string
  /** Who does it; empty: nobody yet. */
  readonly executor: string
  readonly executorHost: string
  /** What the executor is told now; empty: it waits. */
  readonly operation: string
  readonly parameter: string
  readonly askedBy: string
  readonly askedMs: number
  /** It ends then, whatever is said later; undefined: it takes as long as it takes. */
  readonly expiresMs: number | undefined
  /** A serialised ClusterOrder with nothing but its action; undefined: no machine is told anything by the act itself. */
  readonly order: Uint8Array | undefined
  /** Attempts that failed, of what is tried again. */
  readonly attempts: number
  readonly notBeforeMs: number
  readonly endedMs: number | undefined
  readonly done: boolean
  readonly class: string
  /** Why it failed, or what it waits for, or what came out. */
  readonly reason: string
  /** A serialised ClusterStepEnded, never with a kubeconfig. */
  readonly result: Uint8Array | undefined
}

/** An act of ours that was not begun yet, but for what it is about. */
export function plainAct(
  of: Pick<ClusterAct, 'id' | 'cluster' | 'askedBy' | 'askedMs'>,
): Omit<ClusterAct, 'request' | 'act' | 'host' | 'machine' | 'parameter' | 'order'> {
  return {
    ...of,
    intent: '',
    executor: '',
    executorHost: '',
    operation: '',
    expiresMs: undefined,
    attempts: 0,
    notBeforeMs: 0,
    endedMs: undefined,
    done: false,
    class: '',
    reason: '',
    result: undefined,
  }
}

/** Acts that are tried again by themselves: a revision or an adoption asks for them, and nobody stands beside. */
export function isRetried({ request }: Pick<ClusterAct, 'request'>): boolean {
  return !request.startsWith('operator ')
}

/** While such an act is under way nothing else changes the servers of its cluster. */
export function isRebuilding({ act, parameter }: Pick<ClusterAct, 'act' | 'parameter'>): boolean {
  return act === 'restore' || (act === 'rotate' && parameter === 'certificates')
}

/** A node that we cordoned. */
export interface Cordon {
  readonly cluster: string
  readonly host: string
  /** The act it comes from. */
  readonly act: string
  readonly askedBy: string
  readonly atMs: number
  /**
   * The rollout that drained the node on its way to something else, so that rollouts may lift the cordon again. Undefined: an operator asked
   * for it, or nobody knows any more who did; it stays until an operator lifts it.
   */
  readonly rollout?: string | undefined
}

/** Whose cordon of ours is on a node after an act. */
export type CordonAfter =
  | { readonly kind: 'as-before' }
  /** None; with an act: not that one's. */
  | { readonly kind: 'none'; readonly act?: string }
  | { readonly kind: 'of'; readonly act: string }
