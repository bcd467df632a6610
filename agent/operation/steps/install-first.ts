import { join } from 'node:path'
import type { Target } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { installProfile, KUBERNETES_PROFILE } from '../../kubernetes/profile.ts'
import { failed, type PhaseContext, type PhaseFailure, type STOPPED } from '../context.ts'
import { actionOf } from '../fold.ts'
import { buildPackage } from '../phases/build.ts'
import { fetchClosure } from '../phases/fetch.ts'
import type { StepContext } from './step-context.ts'

/**
 * Where a system brings units for a Kubernetes that lives apart and the machine has none yet, its profile is made with the
 * system: without it the units name nothing, and nothing runs from it before the machine founds or joins. One that is there
 * moves by an upgrade alone. Says what is in the way.
 */
export async function installFirst(
  { deps, state, input }: StepContext,
  inner: PhaseContext,
  { kubernetes }: Target,
  tree: string,
): Promise<PhaseFailure | typeof STOPPED | undefined> {
  const { systemRoot: root, activation } = deps.config
  if (!kubernetes?.apart || actionOf(state.order) === 'plan' || activation === 'never') return undefined
  const profile = await deps.system.readLink(join(root, KUBERNETES_PROFILE))
  if (profile.kind !== 'missing') return undefined
  const { way } = kubernetes
  if (way.case === undefined) return undefined
  const made =
    way.case === 'closure'
      ? await fetchClosure(inner, way.value)
      : await buildPackage(inner, tree, way.value.attribute)
  if (made.kind !== 'ok') return made
  const problem = await installProfile(deps.system, { root, storePath: made.value, say: input.say })
  if (problem === undefined) return undefined
  const { BUILD_FAILED, FETCH_FAILED } = OutcomeClass
  return failed(way.case === 'closure' ? FETCH_FAILED : BUILD_FAILED, problem)
}
