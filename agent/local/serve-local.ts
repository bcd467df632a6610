import { rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { Clock } from '../../shared/clock.ts'
import { makePrivateDirectory } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { LocalService } from '../../shared/gen/muster/v1/local_pb.ts'
import type { ServiceHandlers } from '../../shared/rpc/definition.ts'
import { bindPrivately } from '../../shared/rpc/private-socket.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { serve } from '../../shared/rpc/serve.ts'
import { VERSION } from '../../shared/version.ts'
import type { Clusters } from '../clusters/clusters.ts'
import { describeCluster } from '../clusters/describe-cluster.ts'
import type { CertificateStore } from '../identity/certificate-store.ts'
import type { Log } from '../log.ts'
import type { Operations } from '../operation/operations.ts'
import { recordEvent } from '../session/event-messages.ts'
import type { StateDirectory } from '../state/state-directory.ts'
import { StateError } from '../state/state-error.ts'
import type { TrustStore } from '../trust/trust-store.ts'
import { resolveRollback } from './resolve-rollback.ts'
import type { StatusBoard } from './status-board.ts'

export interface LocalDeps {
  readonly directory: StateDirectory
  readonly certificates: CertificateStore
  readonly trust: TrustStore
  readonly operations: Operations
  readonly clusters: Clusters
  readonly board: StatusBoard
  readonly clock: Clock
  readonly log: Log
  /** Called after root replaced the trust set. */
  readonly onTrustSet: () => void
}

const MAX_OPERATIONS = 20
const DRAIN_MS = 1_000

/** Serves root on this machine. Who may connect is decided by the modes of the socket and of its folder. */
export async function serveLocal(deps: LocalDeps, path: string): Promise<AsyncDisposable> {
  await makePrivateDirectory(dirname(path))
  if (await answers(path)) throw new StateError(`${path}: another agent answers on this socket`)
  await rm(path, { force: true })
  const server = new Server()
  serve(server, LocalService, localHandlers(deps), {
    onBug: (method, error) => deps.log.error({ method, err: error }, 'local call failed'),
  })
  await bindPrivately(path, async address => await bind(server, address))
  return {
    async [Symbol.asyncDispose]() {
      await drain(server)
      await rm(path, { force: true })
    },
  }
}

function bind(server: Server, address: string): Promise<void> {
  return new Promise((resolve, reject) =>
    server.bindAsync(address, ServerCredentials.createInsecure(), error =>
      error ? reject(error) : resolve(),
    ),
  )
}

function drain(server: Server): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(() => {
      server.forceShutdown()
      resolve()
    }, DRAIN_MS)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', error => {
      if (hasCode(error, 'ENOENT') || hasCode(error, 'ECONNREFUSED')) resolve(false)
      else reject(new StateError(`${path}: ${error.message}`, { cause: error }))
    })
  })
}

function localHandlers(deps: LocalDeps): ServiceHandlers<typeof LocalService> {
  const { directory, certificates, trust, operations, clusters, board, clock, log } = deps
  return {
    async getStatus() {
      const notAfter = certificates.current?.notAfter
      const report = trust.report()
      return {
        machine: directory.identity.id,
        host: directory.state.current.host,
        state: board.phase,
        reason: board.reason,
        coordinator: board.coordinator,
        ...(notAfter ? { certificateExpires: timestampFromDate(notAfter) } : {}),
        trustNumber: report.number,
        trustFirstUse: report.firstUse,
        highestRevision: operations.memory().highest,
        operations: operations.history().slice(0, MAX_OPERATIONS),
        version: VERSION,
        processId: process.pid,
        node: operations.nodeStatus(),
        ...(await describeCluster(clusters)),
      }
    },
    async setTrust({ trust: chain }) {
      const before = trust.report()
      const walk = await trust.replace(chain?.envelopes ?? [])
      if (walk.kind === 'refused') throw invalid(`trust: ${walk.class}: ${walk.reason}`)
      const { number, digest } = walk.trust
      log.warn({ number, digest, before: before.digest }, 'trust set replaced by hand')
      const reason = `trust set ${number} (${digest}) set by hand on this machine, before it was ${before.number} (${before.digest || 'none'})`
      await recordEvent(directory.state, 'trust-set-by-hand', reason, clock.now())
      deps.onTrustSet()
      return { number: BigInt(number), digest }
    },
    async giveOrder({ order }) {
      if (!order) throw invalid('order: is missing')
      const operationId = await operations.acceptLocal(resolveRollback(order, operations.history()))
      log.warn({ operationId, action: order.action.case }, 'order given by hand on this machine')
      return { operationId }
    },
    async confirm({ operationId }) {
      const confirmed = operations.confirmByHand(operationId)
      log.warn({ operationId: confirmed }, 'operation confirmed by hand on this machine')
      await recordEvent(
        directory.state,
        'confirmed-by-hand',
        `operation ${confirmed} confirmed by hand`,
        clock.now(),
      )
      return { operationId: confirmed }
    },
  }
}
