import { at, isObject, type JsonObject, listAt, readObject, textAt } from '../../../shared/read-value.ts'
import { done, type Failure, failed, type Result } from '../result.ts'
import { type Programs, runProgram } from '../run-program.ts'
import type { ApiRequest } from './ask-api.ts'
import type { ApiAccess } from './read-kubeconfig.ts'

/**
 * The API server, as the cluster's administrator. It is there on servers only. What is asked again and again goes to it directly, with the
 * kubeconfig that kubectl would take, for each start of kubectl costs a tenth of a second of a processor; where that
 * kubeconfig says more than certificates, and for what kubectl does better, it goes by way of kubectl.
 */
export interface Kubectl {
  /** GET of a path such as /api/v1/nodes/n1. */
  get(path: string, signal?: AbortSignal): Promise<KubeResult<JsonObject>>
  /** GET of a path that answers with text, such as /readyz. */
  getText(path: string, signal?: AbortSignal): Promise<KubeResult<string>>
  /** All items of a list, page by page, and no more than `most`: more is a failure. */
  list(path: string, most: number, signal?: AbortSignal): Promise<KubeResult<readonly JsonObject[]>>
  /** POST. */
  create(path: string, object: JsonObject, signal?: AbortSignal): Promise<KubeResult<JsonObject>>
  /** DELETE; with a uid only that very object. */
  remove(path: string, uid?: string, signal?: AbortSignal): Promise<KubeResult<void>>
  /** Merge patch of a Node. The patch holds no secret. */
  patchNode(name: string, patch: JsonObject, signal?: AbortSignal): Promise<KubeResult<JsonObject>>
  /** Merge patch of a Secret of kube-system. The patch holds nothing that could be read by others than whom it is sealed to. */
  patchSecret(name: string, patch: JsonObject, signal?: AbortSignal): Promise<KubeResult<JsonObject>>
  /** Server-side apply of a list; answers with the objects as they are then. */
  apply(
    objects: readonly JsonObject[],
    manager: string,
    signal?: AbortSignal,
  ): Promise<KubeResult<readonly JsonObject[]>>
}

export type KubeResult<T> =
  | Result<T>
  | (Failure & {
      /** The API server's own word for a failure, such as NotFound, Conflict, TooManyRequests; undefined: it said none. */
      readonly status?: string | undefined
      /** What the API server said of it; undefined: nothing. */
      readonly said?: string | undefined
    })

export interface KubectlCommand {
  readonly programs: Programs
  /** The program, and the words before kubectl's own. */
  readonly program: string
  readonly before: readonly string[]
  /** The kubeconfig that it takes. */
  readonly kubeconfig: string
  /** How the API server is asked directly; absent: it is not. */
  readonly askApi?: AskApi | undefined
}

export type AskApi = (access: ApiAccess, asked: ApiRequest) => Promise<KubeResult<string>>

const DEADLINE_MS = 30_000
const REQUEST_MS = 20_000
/** kubectl's own limit, so that it says what it waited for. */
const REQUEST_TIMEOUT = `--request-timeout=${REQUEST_MS / 1_000}s`
/** Longer ones hold more than a way to one cluster. */
const MAX_KUBECONFIG_BYTES = 256 * 1024
const MAX_ANSWER_BYTES = 16 * 1024 * 1024
const PAGE = 100

export function createKubectl(command: KubectlCommand): Kubectl {
  const { programs, program, before } = command
  const run = async (
    args: readonly string[],
    signal: AbortSignal | undefined,
    input?: string,
  ): Promise<KubeResult<string>> => {
    const result = await runProgram(programs, program, {
      args: [...before, ...args, REQUEST_TIMEOUT],
      deadlineMs: DEADLINE_MS,
      signal,
      maxOutputBytes: MAX_ANSWER_BYTES,
      ...(input === undefined ? {} : { input }),
    })
    if (result.kind === 'done') return done(result.value.stdout)
    const { stderr, ...failure } = result
    const status = statusIn(stderr)
    const said =
      status === undefined ? undefined : failure.reason.replace(/^.*Error from server \(\w+\): /, '')
    return { ...failure, class: status === 'NotFound' ? 'not-found' : failure.class, status, said }
  }
  /** Directly where that can be, else by these words of kubectl, which reads the body where they say so. */
  const ask = async (
    asked: Pick<ApiRequest, 'method' | 'path' | 'body' | 'contentType'>,
    words: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<KubeResult<string>> => {
    const { askApi } = command
    const access = askApi && (await directAccess(command))
    if (!access) return await run(words, signal, words.includes('-f') ? asked.body : undefined)
    return await askApi(access, {
      ...asked,
      deadlineMs: REQUEST_MS,
      maxAnswerBytes: MAX_ANSWER_BYTES,
      signal,
    })
  }
  const objectIn = (answer: KubeResult<string>, what: string): KubeResult<JsonObject> => {
    if (answer.kind === 'failed') return answer
    const value = readObject(answer.value)
    return value ? done(value) : failed('unreadable', `${what}: no JSON object`)
  }
  const mergePatch = async (
    path: string,
    patch: JsonObject,
    words: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<KubeResult<JsonObject>> => {
    const body = JSON.stringify(patch)
    // Not by standard input: kubectl opens it by its path, which what is no file or pipe does not bear.
    const all = ['patch', ...words, '--type=merge', `--patch=${body}`, '-o', 'json']
    const contentType = 'application/merge-patch+json'
    return objectIn(await ask({ method: 'PATCH', path, body, contentType }, all, signal), `PATCH ${path}`)
  }
  const getText: Kubectl['getText'] = async (path, signal) =>
    await ask({ method: 'GET', path }, ['get', '--raw', path], signal)
  const get: Kubectl['get'] = async (path, signal) => objectIn(await getText(path, signal), `GET ${path}`)
  return {
    get,
    getText,
    list: async (path, most, signal) => {
      const items: JsonObject[] = []
      let more = ''
      do {
        const query = `${path.includes('?') ? '&' : '?'}limit=${PAGE}${more === '' ? '' : `&continue=${more}`}`
        const page = await get(`${path}${query}`, signal)
        if (page.kind === 'failed') return page
        const found = listAt(page.value, 'items')
        if (!found?.every(isObject)) return failed('unreadable', `kubectl get ${path}: is no list`)
        items.push(...found.filter(isObject))
        if (items.length > most) return failed('unreadable', `kubectl get ${path}: more than ${most} items`)
        more = encodeURIComponent(textAt(page.value, 'metadata', 'continue') ?? '')
      } while (more !== '')
      return done(items)
    },
    create: async (path, value, signal) => {
      const body = JSON.stringify(value)
      const answer = await ask({ method: 'POST', path, body }, ['create', '--raw', path, '-f', '-'], signal)
      return objectIn(answer, `POST ${path}`)
    },
    remove: async (path, uid, signal) => {
      const options = {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Background',
        ...(uid === undefined ? {} : { preconditions: { uid } }),
      }
      const body = JSON.stringify(options)
      const answer = await ask({ method: 'DELETE', path, body }, ['delete', '--raw', path, '-f', '-'], signal)
      return answer.kind === 'failed' ? answer : done(undefined)
    },
    patchNode: async (name, patch, signal) =>
      await mergePatch(`/api/v1/nodes/${encodeURIComponent(name)}`, patch, ['node', name], signal),
    patchSecret: async (name, patch, signal) =>
      await mergePatch(
        `/api/v1/namespaces/kube-system/secrets/${encodeURIComponent(name)}`,
        patch,
        ['secret', name, '--namespace=kube-system'],
        signal,
      ),
    apply: async (objects, manager, signal) => {
      if (objects.length === 0) return done([])
      const list = { apiVersion: 'v1', kind: 'List', items: objects }
      const args = [
        'apply',
        '--server-side',
        '--force-conflicts',
        `--field-manager=${manager}`,
        '-o',
        'json',
        '-f',
        '-',
      ]
      const answer = objectIn(await run(args, signal, JSON.stringify(list)), 'kubectl apply')
      if (answer.kind === 'failed') return answer
      // A list of one is answered as the object itself.
      const items = at(answer.value, 'kind') === 'List' ? listAt(answer.value, 'items') : [answer.value]
      if (!items?.every(isObject)) return failed('unreadable', 'kubectl apply: is no list')
      return done(items.filter(isObject))
    },
  }
}

/** How the API server is reached without kubectl; undefined: by kubectl alone, which then tells what is wrong. */
async function directAccess({
  programs: { system },
  kubeconfig,
}: KubectlCommand): Promise<ApiAccess | undefined> {
  const read = async (path: string) => {
    const reading = await system.readFile(path, MAX_KUBECONFIG_BYTES)
    return reading.kind === 'file' && !reading.truncated ? reading.bytes : undefined
  }
  const text = (await read(kubeconfig))?.toString('utf8')
  if (text === undefined) return undefined
  // It reads YAML, which the agent of a machine that asks no API server does not hold.
  const { readKubeconfig } = await import('./read-kubeconfig.ts')
  try {
    return await readKubeconfig(kubeconfig, text, read)
  } catch {
    return undefined // no YAML
  }
}

/** "Error from server (NotFound): nodes "n9" not found". */
export function statusIn(stderr: string): string | undefined {
  return /^Error from server \(([A-Za-z]+)\)/m.exec(stderr)?.[1]
}

/** Whether the API server itself says that the thing is not there, which no failure to ask it may be taken for. */
export function isNotFound(result: KubeResult<unknown>): boolean {
  return result.kind === 'failed' && 'status' in result && result.status === 'NotFound'
}
