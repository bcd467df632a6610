import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { describeEnding, type Ending, succeeded } from '../../system/system.ts'
import { failed, type PhaseContext, type PhaseResult, STOPPED } from '../context.ts'
import { buildFolder } from '../roots.ts'
import { exitCodeOf, runLogged } from '../run-logged.ts'

/** A flake attribute that may stand after `#` without being taken apart any further. */
const ATTRIBUTE = /^[A-Za-z0-9_][A-Za-z0-9_'-]{0,127}$/

/**
 * What keeps a build to the verified tree: a lock file that lacks something is an error, the flake's own Nix
 * configuration is not accepted, nothing is asked of a registry. Understood by Nix 2.8 and by newer ones.
 * Not --no-write-lock-file: beside it Nix 2.8 takes a missing lock for a warning and fetches what is not pinned.
 */
const HERMETIC = ['--no-update-lock-file']
const HERMETIC_SETTINGS = ['accept-flake-config = false', 'use-registries = false', 'pure-eval = true']

/** Without it nixos-rebuild first builds itself anew from the tree, and runs that. The flag for it has had two names. */
const NO_REEXEC = { _NIXOS_REBUILD_REEXEC: '1' }

/** Builds the verified tree's attribute with nixos-rebuild. Its output goes to the log; says which system came out. */
export async function buildTree(
  context: PhaseContext,
  tree: string,
  attribute: string,
): Promise<PhaseResult<string>> {
  if (!ATTRIBUTE.test(attribute)) return noAttribute(attribute)
  const rebuild = ['nixos-rebuild', 'build', '--flake', `path:${tree}#${attribute}`, ...HERMETIC, '-L']
  return await build(context, 'nixos-rebuild build', rebuild)
}

/** Builds a package of the verified tree, by its whole attribute. */
export async function buildPackage(
  context: PhaseContext,
  tree: string,
  attribute: string,
): Promise<PhaseResult<string>> {
  if (!attribute.split('.').every(part => ATTRIBUTE.test(part))) return noAttribute(attribute)
  const features = ['--extra-experimental-features', 'nix-command flakes']
  const command = [
    'nix',
    ...features,
    'build',
    `path:${tree}#${attribute}`,
    '--out-link',
    'result',
    ...HERMETIC,
    '-L',
  ]
  return await build(context, 'nix build', command)
}

const noAttribute = (attribute: string) =>
  failed(OutcomeClass.BUILD_FAILED, `target: ${JSON.stringify(attribute)} is no flake attribute`)

async function build(
  context: PhaseContext,
  what: string,
  words: readonly string[],
): Promise<PhaseResult<string>> {
  const { deps, signal, operation } = context
  // The link `result` is left in the current folder; it is a root for the garbage collector.
  const folder = buildFolder(deps.stateDir, operation)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const [command = '', ...args] = [...(await sliceOf(context)), ...words]
  const run = await runLogged(context, command, args, {
    deadlineMs: deps.config.buildDeadlineMs,
    signal,
    cwd: folder,
    env: NO_REEXEC,
    nixSettings: HERMETIC_SETTINGS,
  })
  if (signal.aborted) return STOPPED
  if (!succeeded(run.ending)) {
    return failed(
      OutcomeClass.BUILD_FAILED,
      `${describeEnding(what, run.ending)}: ${run.errors.join(' ') || whereToLook(run.ending)}`,
      exitCodeOf(run.ending),
    )
  }
  const link = await deps.system.readLink(join(folder, 'result'))
  if (link.kind !== 'link' || !link.target.startsWith(`${deps.config.storeDir}/`)) {
    return failed(OutcomeClass.BUILD_FAILED, `${what} reported success, but left no link to a store path`)
  }
  return { kind: 'ok', value: link.target, detail: link.target }
}

/** What never started has left nothing in the log. */
const whereToLook = ({ kind }: Ending) =>
  kind === 'not-found' ? 'the agent has no such program in its PATH; is this a NixOS machine?' : 'see the log'

/** The unit that evaluation and builds run under, with the limits that the NixOS module gives it. */
const BUILD_SLICE = 'muster-build.slice'

/** Puts a build under the slice where systemd runs the machine, so that it starves nothing else of memory. */
async function sliceOf({ deps }: PhaseContext): Promise<readonly string[]> {
  if (deps.config.systemRoot !== '/') return []
  const running = await deps.system.exists('/run/systemd/system')
  return running.kind === 'present'
    ? ['systemd-run', '--scope', '--quiet', '--collect', `--slice=${BUILD_SLICE}`, '--']
    : []
}
