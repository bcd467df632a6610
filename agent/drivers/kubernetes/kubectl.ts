import { at, isObject, type JsonObject, listAt, readObject, textAt } from '../../../shared/read-value.ts'
import { done, type Failure, failed, type Result } from '../result.ts'
import { type Programs, runProgram } from '../run-program.ts'

/** The API server by way of kubectl, as the cluster's administrator. It is there on servers only. */
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
  /** Merge patch of an object, such as "node", "n1". The patch holds no secret. */
  patch(target: readonly string[], patch: JsonObject, signal?: AbortSignal): Promise<KubeResult<JsonObject>>
  /** Server-side apply of a list; answers with the objects as they are then. */
  apply(
    objects: readonly JsonObject[],
    manager: string,
    signal?: AbortSignal,
  ): Promise<KubeResult<readonly JsonObject[]>>
}

/** The API server's own word for a failure, such as NotFound, Conflict, TooManyRequests; undefined: it said none. */
export type KubeResult<T> = Result<T> | (Failure & { readonly status?: string | undefined })

export interface KubectlCommand {
  readonly programs: Programs
  /** The program, and the words before kubectl's own. */
  readonly program: string
  readonly before: readonly string[]
}

const DEADLINE_MS = 30_000
/** kubectl's own limit, so that it says what it waited for. */
const REQUEST_TIMEOUT = '--request-timeout=20s'
const MAX_ANSWER_BYTES = 16 * 1024 * 1024
const PAGE = 100

export function createKubectl({ programs, program, before }: KubectlCommand): Kubectl {
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
    return { ...failure, class: status === 'NotFound' ? 'not-found' : failure.class, status }
  }
  const object = async (args: readonly string[], signal: AbortSignal | undefined, input?: string) => {
    const answer = await run(args, signal, input)
    if (answer.kind === 'failed') return answer
    const value = readObject(answer.value)
    return value ? done(value) : failed('unreadable', `kubectl ${args.slice(0, 3).join(' ')}: no JSON object`)
  }
  return {
    get: async (path, signal) => await object(['get', '--raw', path], signal),
    getText: async (path, signal) => await run(['get', '--raw', path], signal),
    list: async (path, most, signal) => {
      const items: JsonObject[] = []
      let more = ''
      do {
        const query = `${path.includes('?') ? '&' : '?'}limit=${PAGE}${more === '' ? '' : `&continue=${more}`}`
        const page = await object(['get', '--raw', `${path}${query}`], signal)
        if (page.kind === 'failed') return page
        const found = listAt(page.value, 'items')
        if (!found?.every(isObject)) return failed('unreadable', `kubectl get ${path}: is no list`)
        items.push(...found.filter(isObject))
        if (items.length > most) return failed('unreadable', `kubectl get ${path}: more than ${most} items`)
        more = encodeURIComponent(textAt(page.value, 'metadata', 'continue') ?? '')
      } while (more !== '')
      return done(items)
    },
    create: async (path, value, signal) =>
      await object(['create', '--raw', path, '-f', '-'], signal, JSON.stringify(value)),
    remove: async (path, uid, signal) => {
      const options = {
        apiVersion: 'v1',
        kind: 'DeleteOptions',
        propagationPolicy: 'Background',
        ...(uid === undefined ? {} : { preconditions: { uid } }),
      }
      const answer = await run(['delete', '--raw', path, '-f', '-'], signal, JSON.stringify(options))
      return answer.kind === 'failed' ? answer : done(undefined)
    },
    patch: async (target, patch, signal) =>
      // Not by standard input: kubectl opens it by its path, which what is no file or pipe does not bear.
      await object(
        ['patch', ...target, '--type=merge', `--patch=${JSON.stringify(patch)}`, '-o', 'json'],
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
      const answer = await object(args, signal, JSON.stringify(list))
      if (answer.kind === 'failed') return answer
      // A list of one is answered as the object itself.
      const items = at(answer.value, 'kind') === 'List' ? listAt(answer.value, 'items') : [answer.value]
      if (!items?.every(isObject)) return failed('unreadable', 'kubectl apply: is no list')
      return done(items.filter(isObject))
    },
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
