import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { kubernetesFiles } from '../clusters/muster/rendered-system.ts'
import { FIXTURES, fixturesFolder, renderBrought, renderClusterFixtures } from './cluster-fixtures.ts'
import { whyNoNixTests } from './nix-library.ts'

const why = whyNoNixTests()

/** Path below the folder to the text of every file. */
function readTree(folder: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath ?? entry.path, entry.name))
      .map(path => [path.slice(folder.length + 1), readFileSync(path, 'utf8')] as const)
      .filter(([path]) => path !== 'fleet.toml'),
  )
}

describe.skipIf(why !== undefined)(`the fixtures of the lab's clusters ${why ?? ''}`, () => {
  it.each(FIXTURES)('%s: are what the modules make of its fleet.toml today', fixture => {
    // After a change that is meant: npx tsx test/nix/write-cluster-fixtures.ts
    const written = readTree(join(fixturesFolder, fixture))
    const fresh = Object.fromEntries(renderClusterFixtures(fixture))
    expect(Object.keys(written).sort()).toEqual(Object.keys(fresh).sort())
    expect(written).toEqual(fresh)
  })

  it.each(FIXTURES)(
    '%s: hold, as the modules have it, what the package of Kubernetes brings where the system is somebody else’s',
    fixture => {
      const written = readTree(join(fixturesFolder, fixture))
      const brought = kubernetesFiles(fixture, 'n5').map(path => [
        `n5/etc/${path}`,
        written[`n5/etc/${path}`],
      ])
      expect(Object.fromEntries(renderBrought(fixture, 'n5'))).toEqual(Object.fromEntries(brought))
    },
  )
})
