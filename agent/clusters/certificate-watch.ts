import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../shared/clock.ts'
import { reasonOf } from '../../shared/errors.ts'
import { CertificateKind, type NodeCertificateEnds } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { CertificateEnd } from '../drivers/node/certificates.ts'
import type { Result } from '../drivers/result.ts'

/** So long what was read counts while nothing in it is near. */
const KEEP_MS = 3_600_000
/** So long it counts when it is near or could not be read: what was mended is to be seen soon. */
const KEEP_NEAR_MS = 60_000
const NEAR_MS = 35 * 24 * 3_600_000

const KINDS = [
  CertificateKind.ORDERED,
  CertificateKind.RENEWED,
  CertificateKind.SELF_SIGNED,
  CertificateKind.AUTHORITY,
] as const

/** What makes a certificate anew. Of k3s the kubelet's have other names: they are those that k3s fetches at a start. */
export function kindOf({ path, authority }: Pick<CertificateEnd, 'path' | 'authority'>): CertificateKind {
  if (authority) return CertificateKind.AUTHORITY
  if (/\/pki\/kubelet-(client|server)-current\.pem$/.test(path)) return CertificateKind.RENEWED
  return path.endsWith('/pki/kubelet.crt') ? CertificateKind.SELF_SIGNED : CertificateKind.ORDERED
}

/** Of each kind the one that ends first. */
export function soonestEnds(ends: readonly CertificateEnd[]): NodeCertificateEnds['soonest'] {
  return KINDS.flatMap(kind => {
    const [first] = ends.filter(end => kindOf(end) === kind).sort((a, b) => a.endsMs - b.endsMs)
    if (!first) return []
    const [notBefore, notAfter] = [first.beganMs, first.endsMs].map(ms => timestampFromMs(ms))
    return [
      {
        $typeName: 'muster.v1.SoonestEnd' as const,
        kind,
        path: first.path.slice(0, 1_000),
        ...(notBefore && { notBefore }),
        ...(notAfter && { notAfter }),
      },
    ]
  })
}

interface Read {
  readonly authority: string
  readonly told: NodeCertificateEnds
  /** By a clock that nobody sets. */
  readonly untilMs: number
}

/** When this node's certificates end, kept in memory, so that nobody who asks what it sees waits for its files. */
export class CertificateWatch {
  readonly #clock: Clock
  readonly #steadyMs: () => number
  #read: Read | undefined
  #running: Promise<void> | undefined

  constructor(clock: Clock, steadyMs: () => number = () => performance.now()) {
    this.#clock = clock
    this.#steadyMs = steadyMs
  }

  /** As it was read last; undefined: not yet for this authority. Where that is too old it is read anew for the next who asks. */
  look(
    authority: string,
    read: () => Promise<Result<readonly CertificateEnd[]>>,
  ): NodeCertificateEnds | undefined {
    const known = this.#read?.authority === authority ? this.#read : undefined
    if (!this.#running && (!known || known.untilMs <= this.#steadyMs())) {
      this.#running = this.#take(authority, read).finally(() => {
        this.#running = undefined
      })
    }
    return known?.told
  }

  async #take(authority: string, read: () => Promise<Result<readonly CertificateEnd[]>>): Promise<void> {
    const told = await readEnds(read)
    const nearMs = this.#clock.now().getTime() + NEAR_MS
    const isNear =
      told.unreadable !== '' ||
      told.soonest.some(({ notAfter }) => Number(notAfter?.seconds ?? 0n) * 1_000 <= nearMs)
    this.#read = { authority, told, untilMs: this.#steadyMs() + (isNear ? KEEP_NEAR_MS : KEEP_MS) }
  }

  /** What was begun has come to rest when it resolves. */
  async idle(): Promise<void> {
    await this.#running
  }
}

async function readEnds(
  read: () => Promise<Result<readonly CertificateEnd[]>>,
): Promise<NodeCertificateEnds> {
  const bare = { $typeName: 'muster.v1.NodeCertificateEnds' } as const
  const unreadable = (why: string) => ({ ...bare, soonest: [], unreadable: why.slice(0, 500) })
  try {
    const ends = await read()
    if (ends.kind === 'failed') return unreadable(`${ends.class}: ${ends.reason}`)
    // A node that has a cluster's data and no certificate is not one whose certificates are well.
    if (ends.value.length === 0) return unreadable('no certificate was found')
    return { ...bare, soonest: soonestEnds(ends.value), unreadable: '' }
  } catch (error) {
    return unreadable(reasonOf(error))
  }
}
