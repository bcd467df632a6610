import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { execPath } from 'node:process'
import { VERSION } from '../../shared/version.ts'
import { filesOf, programFile } from '../support/program.ts'
import { nixBuild } from './nix.ts'
import { must } from './run.ts'

/** The built agent with a Node, as store paths of the host. */
export interface AgentProgram {
  readonly version: string
  /** Holds bin/muster-agent; another for every build and every version. */
  readonly path: string
  /** The Node it runs on, which all of them share. */
  readonly node: string
  /** Whether it can be what the dead man's unit runs at every boot; a program that does not start cannot say. */
  readonly deadMan: boolean
}

const EXPRESSION = `
{ node, bundle, version, broken }:
let
  program = builtins.path { path = node; name = "lab-node"; };
in {
  inherit program;
  agent = derivation {
    name = "muster-agent-\${version}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    inherit program broken;
    bundle = builtins.path { path = bundle; name = "muster-agent-program"; };
    args = [ "-c" ''
      PATH=/usr/bin:/bin
      mkdir -p $out/bin
      cp -r $bundle $out/lib
      if [ -n "$broken" ]; then
        printf '#!/bin/sh\\necho "stand-in: an agent that does not start" >&2\\nexit 1\\n' > $out/bin/muster-agent
      else
        printf '#!/bin/sh\\nexec %s %s/lib/agent.mjs "$@"\\n' "$program" "$out" > $out/bin/muster-agent
      fi
      chmod 755 $out/bin/muster-agent
    '' ];
  };
}
`

export interface AgentProgramOptions {
  /** What it says of itself instead of the checkout's version; digits and dots. */
  readonly version?: string
  /** A program that ends with 1 at once: for the update into one that does not start. */
  readonly broken?: boolean
}

/** Puts the agent of dist/, which the test set-up builds, into the host's store. */
export async function buildAgentProgram(options: AgentProgramOptions = {}): Promise<AgentProgram> {
  const { version = VERSION, broken = false } = options
  const folder = await mkdtemp(join(tmpdir(), 'ma-'))
  try {
    const bundle = join(folder, 'lib')
    await copyProgram(bundle, version)
    await writeFile(join(folder, 'agent.nix'), EXPRESSION)
    const args = ['--argstr', 'node', execPath, '--argstr', 'bundle', bundle]
    const more = ['--argstr', 'version', version, '--argstr', 'broken', broken ? '1' : '']
    const [path = ''] = await nixBuild('--file', join(folder, 'agent.nix'), ...args, ...more, 'agent')
    const node = /exec (\/nix\/store\/[^ /]+)/.exec(
      await readFile(join(path, 'bin/muster-agent'), 'utf8'),
    )?.[1]
    return { version, path, node: node ?? path, deadMan: broken || (await knowsDeadMan(path)) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The program and its parts, with another version if one is wanted. */
async function copyProgram(to: string, version: string): Promise<void> {
  const program = programFile('agent')
  await mkdir(join(to, 'agent'), { recursive: true })
  let said = 0
  for (const file of await filesOf(program)) {
    const text = await readFile(file, 'utf8')
    const named = text.replaceAll(JSON.stringify(VERSION), JSON.stringify(version))
    if (named !== text) said += 1
    await writeFile(join(to, relative(dirname(program), file)), named)
  }
  if (version !== VERSION && said === 0) throw new Error(`${program}: says nowhere that it is ${VERSION}`)
}

async function knowsDeadMan(path: string): Promise<boolean> {
  return (await must(join(path, 'bin/muster-agent'), ['--help'])).stdout.includes('muster-agent dead-man')
}
