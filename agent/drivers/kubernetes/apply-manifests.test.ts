import { describe, expect, it } from 'vitest'
import { isObject, type JsonObject, textAt } from '../../../shared/read-value.ts'
import { DONE, done, failed } from '../result.ts'
import { applyManifests } from './apply-manifests.ts'
import type { Kubectl } from './kubectl.ts'

const NOT_FOUND = { ...failed('not-found', 'there is none'), status: 'NotFound' }

/** An API server that keeps objects in a list, gives each a uid: a fake of `Kubectl`. */
class MadeUpApi {
  readonly objects = new Map<string, JsonObject>()
  readonly deleted: string[] = []
  /** What fails: the first apply that holds an object of this name. */
  breaksAt: string | undefined
  #uids = 0

  static pathOf(object: JsonObject): string {
    const [version, kind, namespace, name] = [
      textAt(object, 'apiVersion') ?? '',
      textAt(object, 'kind') ?? '',
      textAt(object, 'metadata', 'namespace'),
      textAt(object, 'metadata', 'name') ?? '',
    ]
    const plural = { ConfigMap: 'configmaps', Namespace: 'namespaces', Deployment: 'deployments' }[kind] ?? ''
    const base = version.includes('/') ? `/apis/${version}` : `/api/${version}`
    const within = kind === 'Namespace' ? '' : `/namespaces/${namespace ?? 'default'}`
    return `${base}${within}/${plural}/${name}`
  }

  put(object: JsonObject): JsonObject {
    const path = MadeUpApi.pathOf(object)
    const known = this.objects.get(path)
    if (!known) this.#uids += 1
    const uid = known ? textAt(known, 'metadata', 'uid') : `uid-${this.#uids}`
    const metadata = isObject(object.metadata) ? object.metadata : {}
    const isSpace = textAt(object, 'kind') === 'Namespace'
    const namespace = isSpace ? {} : { namespace: textAt(object, 'metadata', 'namespace') ?? 'default' }
    const live = { ...object, metadata: { ...metadata, ...namespace, uid } }
    this.objects.set(path, live)
    return live
  }

  /** Somebody deletes it and makes another one of the same name. */
  replace(object: JsonObject): void {
    this.objects.delete(MadeUpApi.pathOf(object))
    this.put(object)
  }

  readonly kubectl: Kubectl = {
    get: async path => {
      if (path === '/api/v1') {
        const kinds = [
          { name: 'configmaps', kind: 'ConfigMap', namespaced: true },
          { name: 'namespaces', kind: 'Namespace', namespaced: false },
        ]
        return done({ resources: kinds })
      }
      const found = this.objects.get(path)
      return found ? done(found) : NOT_FOUND
    },
    getText: async () => failed('unsupported', 'made up'),
    list: async () => failed('unsupported', 'made up'),
    create: async () => failed('unsupported', 'made up'),
    patchNode: async () => failed('unsupported', 'made up'),
    patchSecret: async () => failed('unsupported', 'made up'),
    remove: async (path, uid) => {
      const live = this.objects.get(path)
      if (!live) return NOT_FOUND
      if (uid === undefined || uid !== textAt(live, 'metadata', 'uid'))
        return failed('command', 'Precondition failed: UID in precondition does not match')
      this.objects.delete(path)
      this.deleted.push(path)
      return DONE
    },
    apply: async objects => {
      if (objects.some(each => textAt(each, 'metadata', 'name') === this.breaksAt))
        return failed('command', 'the connection was lost')
      return done(objects.map(each => this.put(each)))
    },
  }

  async apply(objects: readonly JsonObject[], allowEmpty = false, name = 'home') {
    return await applyManifests(this.kubectl, { name, objects, allowEmpty })
  }

  names(): string[] {
    return [...this.objects.keys()].filter(path => !path.includes('muster-manifests-')).toSorted()
  }
}

const map = (name: string, namespace = 'app'): JsonObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace },
})
const space: JsonObject = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'app' } }
const IN_APP = '/api/v1/namespaces/app/configmaps'

describe('manifests that are brought', () => {
  it('K14, T49: take away what is no longer among them: by its uid and our label, and never a namespace', async () => {
    const api = new MadeUpApi()
    expect(await api.apply([space, map('a'), map('b'), map('anew'), map('taken')])).toEqual({
      kind: 'done',
      value: { applied: 5, pruned: [], kept: [] },
    })
    for (const path of api.names())
      expect(textAt(api.objects.get(path), 'metadata', 'labels', 'muster/manifests')).toBe('home')
    const label = { labels: { 'muster/manifests': 'home' } }
    api.replace({ ...map('anew'), metadata: { name: 'anew', namespace: 'app', ...label } })
    api.put(map('taken'))
    // It carries our label, and we never brought it.
    api.put({ ...map('copied'), metadata: { name: 'copied', namespace: 'app', ...label } })
    expect(await api.apply([map('a')])).toEqual({
      kind: 'done',
      value: {
        applied: 1,
        pruned: ['ConfigMap app/b'],
        kept: [
          'ConfigMap app/taken: it has no label muster/manifests=home',
          expect.stringMatching(/^ConfigMap app\/anew: somebody made it anew/),
          expect.stringMatching(/^Namespace app: a namespace is never deleted/),
        ],
      },
    })
    expect(api.deleted).toEqual([`${IN_APP}/b`])
    expect(api.names()).toEqual([
      ...['/api/v1/namespaces/app', `${IN_APP}/a`, `${IN_APP}/anew`, `${IN_APP}/copied`, `${IN_APP}/taken`],
    ])
  })

  it('T49: are none only where that is said, and never what another set brought', async () => {
    const api = new MadeUpApi()
    await api.apply([map('a')])
    await api.apply([map('b')], false, 'other')
    expect(await api.apply([])).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('the set is empty'),
    })
    expect(api.deleted).toEqual([])
    expect(await api.apply([], true)).toMatchObject({ kind: 'done', value: { pruned: ['ConfigMap app/a'] } })
    expect(api.names()).toEqual([`${IN_APP}/b`])
  })

  it('T49: prune nothing when what they brought before cannot be read', async () => {
    const api = new MadeUpApi()
    await api.apply([map('a'), map('b')])
    const [path = '', memory] =
      [...api.objects].find(([each]) => each.includes('muster-manifests-home')) ?? []
    for (const objects of ['', '[{"kind":"X"}]', '[1', '{}']) {
      api.objects.set(path, { ...memory, data: { objects } })
      expect(await api.apply([map('a')])).toMatchObject({ class: 'unreadable' })
    }
    expect(api.deleted).toEqual([])
  })

  it('are remembered before they are made, so that what is killed in between is not forgotten', async () => {
    const api = new MadeUpApi()
    api.breaksAt = 'b'
    expect(await api.apply([map('a'), map('b')])).toMatchObject({ class: 'command' })
    // It came into the cluster all the same, and the answer was lost.
    api.put({
      ...map('b'),
      metadata: { name: 'b', namespace: 'app', labels: { 'muster/manifests': 'home' } },
    })
    api.breaksAt = undefined
    expect(await api.apply([map('a')])).toMatchObject({
      kind: 'done',
      value: { pruned: ['ConfigMap app/b'] },
    })
    expect(api.names()).toEqual([`${IN_APP}/a`])
  })

  it('are refused whole when one of them is of no kind that the cluster knows', async () => {
    const api = new MadeUpApi()
    const strange = { apiVersion: 'v1', kind: 'Strange', metadata: { name: 'x' } }
    const stopped = AbortSignal.abort()
    const set = { name: 'home', objects: [map('a'), strange], allowEmpty: false }
    expect(await applyManifests(api.kubectl, set, stopped)).toMatchObject({
      class: 'precondition',
      reason: expect.stringContaining('knows no v1 Strange'),
    })
    expect(api.names()).toEqual([])
  })
})
