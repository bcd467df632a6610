import { status } from '@grpc/grpc-js'

/**
 * A caller's mistake, or a state the caller must know of: the only error whose text leaves the process. The message is
 * lower case and names the field or thing at fault.
 */
export class RpcError extends Error {
  override readonly name = 'RpcError'
  readonly code: status

  constructor(code: status, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export const invalid = (message: string): RpcError => new RpcError(status.INVALID_ARGUMENT, message)
export const notFound = (message: string): RpcError => new RpcError(status.NOT_FOUND, message)
export const precondition = (message: string): RpcError => new RpcError(status.FAILED_PRECONDITION, message)
export const denied = (message: string): RpcError => new RpcError(status.PERMISSION_DENIED, message)
export const unauthenticated = (message: string): RpcError => new RpcError(status.UNAUTHENTICATED, message)
export const aborted = (message: string): RpcError => new RpcError(status.ABORTED, message)
export const exists = (message: string): RpcError => new RpcError(status.ALREADY_EXISTS, message)
export const exhausted = (message: string): RpcError => new RpcError(status.RESOURCE_EXHAUSTED, message)
export const unavailable = (message: string): RpcError => new RpcError(status.UNAVAILABLE, message)
