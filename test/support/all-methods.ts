import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { DescService } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import type { RpcClient } from '../../shared/rpc/client.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'

const codeOf = (error: unknown): string =>
  error instanceof RpcError ? (status[error.code] ?? String(error.code)) : String(error)

/** Calls a method with an empty request and says how it ended. */
export async function outcomeOf(call: unknown): Promise<string> {
  try {
    if (call instanceof Promise) await call
    else for await (const _ of call as AsyncIterable<unknown>) break
    return 'OK'
  } catch (error) {
    return codeOf(error)
  }
}

async function* nothing(): AsyncGenerator<never> {}

/** How each method of a service answers an empty request, by "Service.Method". */
export async function outcomesOf<S extends DescService>(
  service: S,
  client: RpcClient<S>,
): Promise<readonly (readonly [method: string, outcome: string])[]> {
  const outcomes: (readonly [string, string])[] = []
  for (const method of service.methods) {
    const call: (input: unknown) => unknown = Reflect.get(client as object, method.localName)
    const streams = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming'
    outcomes.push([`${service.name}.${method.name}`, await outcomeOf(call(streams ? nothing() : {}))])
  }
  return outcomes
}

/** Every service of our wire, also one that is made tomorrow. */
export async function allServices(): Promise<readonly DescService[]> {
  const path = join(import.meta.dirname, '../../shared/gen/muster/v1')
  const files = (await readdir(path)).filter(name => name.endsWith('_pb.ts'))
  const modules = await Promise.all(files.map(name => import(join(path, name))))
  return modules.flatMap(module =>
    Object.values(module).filter(
      (exported): exported is DescService =>
        typeof exported === 'object' && exported !== null && Reflect.get(exported, 'kind') === 'service',
    ),
  )
}
