import { readlink } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { reasonOf } from '../../shared/errors.ts'
import { runCommand } from './run-command.ts'

/** With what the demo's machines build. */
export type Builder =
  | {
      readonly kind: 'nix'
      readonly version: string
      readonly tools: string
      readonly env: Readonly<Record<string, string>>
    }
  | {
      readonly kind: 'simulated'
      readonly why: string
      readonly tools: string
      readonly env: Readonly<Record<string, string>>
    }

// Builders of the demo's stand-ins use the tools of this machine, which a sandbox would hide. Nothing of the machine's
// own configuration of Nix is changed: this stands in the environment of the demo's processes alone.
const NIX_CONFIG = [
  'sandbox = false',
  'build-users-group =',
  'extra-experimental-features = nix-command flakes',
  'substituters =',
]

/** Real Nix where it is and can build, otherwise scripts that simulate it. Finds out by building. */
export async function findBuilder(top: string, flake: string, signal: AbortSignal): Promise<Builder> {
  const simulated = (why: string): Builder => ({
    kind: 'simulated',
    why,
    tools: [join(top, 'scripts/demo/tools'), ...programFolders()].join(delimiter),
    env: {},
  })
  const env = { NIX_CONFIG: [process.env.NIX_CONFIG ?? '', ...NIX_CONFIG].join('\n').trim() }
  const asked = await runCommand('nix', ['--version'], { env, signal })
  if (asked.code !== 0) return simulated('there is no Nix on this machine')
  try {
    await buildAll(flake, ['olaf'], env, signal)
  } catch (error) {
    return simulated(`Nix is here, but cannot build for this user: ${reasonOf(error)}`)
  }
  return {
    kind: 'nix',
    version: asked.stdout.trim(),
    tools: [join(top, 'test/standin'), ...programFolders()].join(delimiter),
    env,
  }
}

/** Builds stand-in systems with real Nix, all at once. Says their store paths in order. */
export async function buildAll(
  flake: string,
  names: readonly string[],
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<string[]> {
  const attributes = names.map(
    name => `path:${flake}#nixosConfigurations.${name}.config.system.build.toplevel`,
  )
  const args = ['build', '--json', '--no-link', '--no-update-lock-file', '--offline', ...attributes]
  const { code, stdout, stderr } = await runCommand('nix', args, { env, cwd: '/', signal })
  if (code !== 0) throw new Error(stderr.trim().split('\n').at(-1) ?? `nix build ended with ${code}`)
  const built: { outputs?: { out?: string } }[] = JSON.parse(stdout)
  return built.map(({ outputs }, index) => {
    if (outputs?.out === undefined) throw new Error(`nix build named no path for ${names[index]}`)
    return outputs.out
  })
}

/** Puts one system together with the simulated tools. */
export async function buildSimulated(
  builder: Builder,
  flake: string,
  name: string,
  folder: string,
  store: string,
  signal: AbortSignal,
): Promise<string> {
  const env = { ...builder.env, PATH: builder.tools, MUSTER_SIMULATED_STORE: store }
  const { code, both } = await runCommand('nixos-rebuild', ['build', '--flake', `path:${flake}#${name}`], {
    env,
    cwd: folder,
    signal,
  })
  if (code !== 0) throw new Error(`simulated build of ${name}: ${both}`)
  return await readlink(join(folder, 'result'))
}

function programFolders(): readonly string[] {
  return (process.env.PATH ?? '').split(delimiter).filter(folder => folder !== '')
}
