// `npm start [-- OPTIONS]`: installs and builds what is missing, then starts a coordinator with an agent on this machine, or
// walks through the demo. Depends on nothing but Node, so that it works in a fresh clone. `npm start -- --help` tells more.
import { build, isBuilt } from './build.mjs'
import { ensureDependencies } from './set-up.mjs'

const LEAST_NODE = [20, 19]

function nodeProblem() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  const good = major > LEAST_NODE[0] || (major === LEAST_NODE[0] && minor >= LEAST_NODE[1])
  return good
    ? undefined
    : `Node ${process.versions.node} is too old: Muster needs ${LEAST_NODE.join('.')} or newer`
}

async function prepare() {
  const problem = nodeProblem()
  if (problem !== undefined) throw new Error(problem)
  ensureDependencies()
  if (await isBuilt()) return
  console.error('building …')
  await build()
}

try {
  await prepare()
  const { main } = await import('../dist/start.mjs')
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  console.error(`npm start: ${error.message}`)
  process.exitCode = 1
}
