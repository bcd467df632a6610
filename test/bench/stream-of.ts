/** A list as the stream that a client-streaming call takes. */
export async function* streamOf<T>(items: readonly T[]): AsyncGenerator<T> {
  for (const item of items) yield item
}
