import { type Client, Metadata } from '@grpc/grpc-js'

export interface OneCall {
  /** "/package.Service/Method". */
  readonly path: string
  readonly message: Uint8Array
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
}

/** One call of bytes for bytes; a failure is gRPC's own error. */
export async function callOnce(
  channel: Client,
  { path, message, deadlineMs, signal }: OneCall,
): Promise<Buffer> {
  return await new Promise<Buffer>((resolve, reject) => {
    const running = channel.makeUnaryRequest<Buffer, Buffer>(
      path,
      bytes => bytes,
      bytes => bytes,
      Buffer.from(message),
      new Metadata(),
      { deadline: Date.now() + deadlineMs },
      (error, answer) => {
        signal?.removeEventListener('abort', cancel)
        if (error) reject(error)
        else resolve(answer ?? Buffer.alloc(0))
      },
    )
    const cancel = () => running.cancel()
    if (signal?.aborted) cancel()
    else signal?.addEventListener('abort', cancel, { once: true })
  })
}
