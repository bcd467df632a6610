import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { evaluate, whyNoNixTests } from './nix-library.ts'

const why = whyNoNixTests()
const root = join(import.meta.dirname, '../..')

const lock = z
  .object({
    packages: z.record(
      z.string(),
      z.object({
        name: z.string().optional(),
        version: z.string(),
        integrity: z.string().optional(),
        resolved: z.string().optional(),
        dev: z.boolean().optional(),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')))
const entries = Object.entries(lock.packages).filter(([path]) => path !== '')

const archive = z.object({ spec: z.string(), outputHash: z.string(), outputHashMode: z.string() })
const modules = z.object({ places: z.string(), archives: z.record(z.string(), archive) })

/** What node-modules.nix makes of the lock file, with a mkDerivation that hands its arguments back. */
function modulesOn(system: string) {
  return modules.parse(
    evaluate(`
      let
        inherit (e) lib;
        made = import ${root}/nix/packages/node-modules.nix {
          inherit lib;
          stdenvNoCC = {
            hostPlatform = lib.systems.elaborate "${system}";
            mkDerivation = arguments: arguments // { outPath = "<\${arguments.spec or ""}>"; };
          };
          nodejs = "nodejs";
          cacert = "cacert";
        } {
          lockFile = ${root}/package-lock.json;
          select = path: entry: path == "node_modules/esbuild" || lib.hasPrefix "node_modules/@esbuild/" path || !(entry.dev or false);
        };
      in {
        inherit (made) places;
        archives = lib.mapAttrs (_: one: { inherit (one) spec outputHash outputHashMode; }) made.passthru.archives;
      }`),
  )
}

/** How the agent's package is put together, where a build is known by the time of its sources alone. */
const agentScript = (settings: string) =>
  evaluate(`
    let lib = e.lib // { getExe = program: program; }; in
    (import ${root}/nix/packages {
      inherit lib;
      runCommand = name: arguments: script: script;
      makeWrapper = null;
      nodejs_24 = "node";
      callPackage = file: more: import file ({
        inherit lib;
        stdenv.mkDerivation = made: { outPath = "built at \${made.SOURCE_DATE_EPOCH or "no time"}"; };
        srcOnly = program: program;
        callPackage = file: more: arguments: "modules";
        nodejs_24 = "node";
        python3 = "python3";
      } // more);
      ${settings}
    }).agent`)

describe('package-lock.json', () => {
  test('names no URL, and has for every package the hash that the Nix build takes it by', () => {
    expect(entries.filter(([, { resolved }]) => resolved !== undefined)).toEqual([])
    expect(
      entries.filter(([, { integrity }]) => !/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity ?? '')),
    ).toEqual([])
  })
})

describe.skipIf(why !== undefined)(`the node_modules of the Nix build ${why ?? ''}`, () => {
  test('hold every package that the programs need, each by the hash of the lock file', () => {
    const { archives } = modulesOn('x86_64-linux')
    const needed = entries.filter(([, { dev }]) => dev !== true)
    expect(needed.length).toBeGreaterThan(20)
    for (const [path, { name: own, version, integrity }] of needed) {
      const name = own ?? path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
      expect(archives[path]).toEqual({
        spec: `${name}@${version}`,
        outputHash: integrity,
        outputHashMode: 'flat',
      })
    }
  })

  test('hold of the tools only esbuild, for the platform that builds', () => {
    const tools = (system: string) =>
      Object.keys(modulesOn(system).archives).filter(path => lock.packages[path]?.dev === true)
    expect(tools('x86_64-linux')).toEqual(['node_modules/@esbuild/linux-x64', 'node_modules/esbuild'])
    expect(tools('aarch64-linux')).toEqual(['node_modules/@esbuild/linux-arm64', 'node_modules/esbuild'])
  })

  test('hold the native module of the Node that the packages take, with what it is compiled with, and no other', () => {
    const taken = z.array(z.string()).parse(
      evaluate(`
        (import ${root}/nix/packages/build.nix {
          inherit (e) lib;
          stdenv.mkDerivation = arguments: arguments;
          srcOnly = _: "source";
          callPackage = _: _: { lockFile, select }:
            builtins.attrNames (e.lib.filterAttrs select (e.lib.importJSON lockFile).packages);
          nodejs_24 = "nodejs";
          python3 = "python3";
          sourceTime = null;
        }).nodeModules`),
    )
    expect(taken).toEqual(
      expect.arrayContaining(['node_modules/better-sqlite3-node24', 'node_modules/node-addon-api']),
    )
    expect(taken).not.toContain('node_modules/better-sqlite3')
    expect(taken.filter(path => lock.packages[path]?.dev === true && !path.includes('esbuild'))).toEqual([])
  })

  test('name a place for each archive', () => {
    const { places, archives } = modulesOn('x86_64-linux')
    const lines = places.trimEnd().split('\n')
    const alias = 'node_modules/better-sqlite3-node24'
    expect(lines).toContain(`${alias} <better-sqlite3@${lock.packages[alias]?.version}>`)
    expect(lines.length).toBe(Object.keys(archives).length)
  })
})

describe.skipIf(why !== undefined)(`the time of the sources ${why ?? ''}`, () => {
  test('is that of a clean commit, which is the same wherever it is built, and else none', () => {
    expect(agentScript('sourceTime = 1700000000;')).toContain('built at 1700000000')
    expect(agentScript('')).toContain('built at no time')
    const given = (self: string) =>
      evaluate(`((import ${root}/flake.nix).outputs {
        self = ${self} // { lastModified = 1700000000; };
        nixpkgs = { inherit (e) lib; legacyPackages = e.lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: {
          lib = e.lib // { getExe = program: program; };
          runCommand = name: arguments: script: script;
          makeWrapper = null;
          nodejs_24 = "node";
          callPackage = file: { sourceTime }: { outPath = "built at \${toString sourceTime}"; };
        }); };
      }).packages.x86_64-linux.agent`)
    expect(given('{ rev = "abc"; }')).toContain('built at 1700000000/')
    expect(given('{ dirtyRev = "abc-dirty"; }')).toContain('built at /')
  })
})
