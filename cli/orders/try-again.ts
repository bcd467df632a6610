import { status } from '@grpc/grpc-js'
import { pause } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'

const TRIES = 5

/** Sends a request again when its answer was lost. For requests alone that mean the same when they come twice. */
export async function tryAgain<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      const again = error instanceof RpcError && error.code === status.UNAVAILABLE && attempt + 1 < TRIES
      if (!again || !(await pause(backoffMs(attempt, { firstMs: 200, mostMs: 2_000 }), signal))) throw error
    }
  }
}
