// Renews test/fixtures/clusters from the Nix modules: `npx tsx test/nix/write-cluster-fixtures.ts`. Needs Nix and the library
// of nixpkgs, as the tests beside it do.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { FIXTURES, fixturesFolder, renderClusterFixtures } from './cluster-fixtures.ts'
import { whyNoNixTests } from './nix-library.ts'

const why = whyNoNixTests()
if (why === undefined) {
  for (const fixture of FIXTURES) {
    const folder = join(fixturesFolder, fixture)
    const files = renderClusterFixtures(fixture)
    for (const name of readdirSync(folder)) {
      if (name !== 'fleet.toml') rmSync(join(folder, name), { recursive: true })
    }
    for (const [path, text] of files) {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), text)
    }
    process.stdout.write(`${fixture}: ${files.size} files\n`)
  }
} else {
  process.stderr.write(`the fixtures were not renewed: ${why}\n`)
  process.exitCode = 1
}
