import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { eachField } from '../each-field.ts'

/** The few messages of the container runtime interface (runtime.v1) that drivers speak, by their field numbers there. */

/** A pod as its runtime has it: what holds its network and its containers. */
export interface PodSandbox {
  readonly id: string
  readonly name: string
  readonly namespace: string
  /** The kubelet read it from a file, and not from the API server. */
  readonly isStatic: boolean
}

export interface SandboxContainer {
  readonly id: string
  /** How long its pod asks to be given for its end; undefined: it does not say. */
  readonly graceSeconds: number | undefined
}

/** What a runtime says of itself. */
export interface RuntimeCondition {
  readonly holds: boolean
  readonly reason: string
  readonly message: string
}

const SOURCE = 'kubernetes.io/config.source'
const GRACE = 'io.kubernetes.pod.terminationGracePeriod'

/** ListPodSandboxRequest: all of them. */
export const listSandboxesRequest = (): Uint8Array => new Uint8Array()

/** StopPodSandboxRequest and RemovePodSandboxRequest are alike. */
export const sandboxRequest = (id: string): Uint8Array =>
  new BinaryWriter().tag(1, WireType.LengthDelimited).string(id).finish()

/** ListContainersRequest with a filter: those of one sandbox. */
export const containersRequest = (sandbox: string): Uint8Array =>
  new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .fork()
    .tag(3, WireType.LengthDelimited)
    .string(sandbox)
    .join()
    .finish()

/** StopContainerRequest: asked to end, and killed when its time is over. */
export const stopContainerRequest = (id: string, graceSeconds: number): Uint8Array =>
  new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(id)
    .tag(2, WireType.Varint)
    .int64(graceSeconds)
    .finish()

/** The sandboxes of a ListPodSandboxResponse. */
export function readSandboxes(bytes: Uint8Array): readonly PodSandbox[] {
  return messagesIn(bytes, 1).map(each => {
    let [id, name, namespace] = ['', '', '']
    const annotations = new Map<string, string>()
    eachField(each, (number, reader) => {
      if (number === 1) id = reader.string()
      else if (number === 2) [name, namespace] = readMetadata(reader.bytes())
      else if (number === 6) annotations.set(...readPair(reader.bytes()))
      else return false
      return true
    })
    return { id, name, namespace, isStatic: annotations.get(SOURCE) === 'file' }
  })
}

/** The containers of a ListContainersResponse. */
export function readContainers(bytes: Uint8Array): readonly SandboxContainer[] {
  return messagesIn(bytes, 1).map(each => {
    let id = ''
    const annotations = new Map<string, string>()
    eachField(each, (number, reader) => {
      if (number === 1) id = reader.string()
      else if (number === 9) annotations.set(...readPair(reader.bytes()))
      else return false
      return true
    })
    const said = annotations.get(GRACE)
    return { id, graceSeconds: said !== undefined && /^\d{1,9}$/.test(said) ? Number(said) : undefined }
  })
}

/** StatusRequest: without details of the implementation. */
export const statusRequest = (): Uint8Array => new Uint8Array()

/** The conditions of a StatusResponse by their names: RuntimeReady, NetworkReady. */
export function readConditions(bytes: Uint8Array): ReadonlyMap<string, RuntimeCondition> {
  const conditions = new Map<string, RuntimeCondition>()
  for (const each of messagesIn(bytes, 1).flatMap(status => messagesIn(status, 1))) {
    let [name, holds, reason, message] = ['', false, '', '']
    eachField(each, (number, reader) => {
      if (number === 1) name = reader.string()
      else if (number === 2) holds = reader.bool()
      else if (number === 3) reason = reader.string()
      else if (number === 4) message = reader.string()
      else return false
      return true
    })
    conditions.set(name, { holds, reason, message })
  }
  return conditions
}

function messagesIn(bytes: Uint8Array, field: number): Uint8Array[] {
  const found: Uint8Array[] = []
  eachField(bytes, (number, reader, wire) => {
    if (number !== field || wire !== WireType.LengthDelimited) return false
    found.push(reader.bytes())
    return true
  })
  return found
}

function readMetadata(bytes: Uint8Array): [name: string, namespace: string] {
  let [name, namespace] = ['', '']
  eachField(bytes, (number, reader) => {
    if (number === 1) name = reader.string()
    else if (number === 3) namespace = reader.string()
    else return false
    return true
  })
  return [name, namespace]
}

/** An entry of a map of texts. */
function readPair(bytes: Uint8Array): [key: string, value: string] {
  let [key, value] = ['', '']
  eachField(bytes, (number, reader) => {
    if (number === 1) key = reader.string()
    else if (number === 2) value = reader.string()
    else return false
    return true
  })
  return [key, value]
}
