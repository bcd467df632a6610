import type { Target } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { succeeded } from '../../system/system.ts'
import { failed, type PhaseContext, type PhaseFailure, type PhaseResult } from '../context.ts'
import type { Verified } from './verify.ts'

/** What must hold before anything is downloaded. Only reads. */
export async function preflight(
  context: PhaseContext,
  { manifest, facts }: Verified,
  way: Target['way'],
  builder: 'nixos-rebuild' | 'nix',
): Promise<PhaseResult<undefined>> {
  const { deps } = context
  const tools = await toolsProblem(context, way.case === 'source' ? builder : 'nix-store')
  if (tools) return tools
  const least = manifest.manifest.requirements?.leastNixVersion ?? ''
  if (least !== '') {
    const have = facts.nixos?.nixVersion
    if (have === undefined || compareVersions(have, least) < 0) {
      return refused(
        'nix-version',
        `the revision asks for Nix ${least} or newer, this node has ${have ?? 'an unknown one'}`,
      )
    }
  }
  switch (way.case) {
    case 'source': {
      if (!deps.config.sourceBuild.enabled) {
        return refused(
          'not-allowed',
          'this node does not build (option sourceBuild.enabled); publish with --build',
        )
      }
      const wanted = Math.max(Number(way.value.leastMemoryBytes), deps.config.sourceBuild.leastMemoryBytes)
      const have = facts.memory?.total
      if (wanted > 0 && (have === undefined || Number(have) < wanted)) {
        return refused(
          'memory',
          `evaluating needs ${wanted} bytes of memory, this node has ${have ?? 'an unknown amount'}; publish with --build`,
        )
      }
      return { kind: 'ok', value: undefined, detail: 'source build' }
    }
    case 'closure': {
      const { storePath, publicKeys } = way.value
      if (!/^\/nix\/store\/[0-9a-z]{32}-[0-9A-Za-z+._?=-]{1,211}$/.test(storePath)) {
        return refused('malformed', `target: ${storePath} is no store path`)
      }
      if (publicKeys.length === 0) return refused('malformed', 'target: a closure without public keys')
      return { kind: 'ok', value: undefined, detail: `closure ${storePath}` }
    }
    case undefined:
      return refused('malformed', 'target: says neither source nor closure; the agent may be too old for it')
  }
}

async function toolsProblem(
  { deps, signal }: PhaseContext,
  maker: 'nixos-rebuild' | 'nix' | 'nix-store',
): Promise<PhaseFailure | undefined> {
  for (const tool of ['nix-env', maker]) {
    if (tool === 'nixos-rebuild') continue // has no harmless call that all its versions know
    const { ending } = await deps.system.run(tool, ['--version'], { deadlineMs: 20_000, signal })
    if (ending.kind === 'cancelled') return undefined // the agent stops, which whoever called sees
    if (ending.kind === 'not-found') return refused('tool-missing', `${tool}: not found in the agent's PATH`)
    if (!succeeded(ending)) return refused('tool-missing', `${tool} --version does not work here`)
  }
  return undefined
}

function refused(refusal: string, reason: string): PhaseFailure {
  return { ...failed(OutcomeClass.REFUSED, reason), refusal }
}

/** Compares dotted versions by their numbers; a suffix such as "pre20240101" counts as nothing. */
export function compareVersions(a: string, b: string): number {
  const parts = (text: string) => text.split('.').map(part => Number.parseInt(part, 10) || 0)
  const [left, right] = [parts(a), parts(b)]
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
