// Starts one of the programs from a checkout, building it first where that is needed. Depends on nothing but Node.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const top = join(dirname(fileURLToPath(import.meta.url)), '..')

export async function launch(program) {
  const file = join(top, 'dist', program)
  if (existsSync(join(top, 'scripts/build.mjs')) && existsSync(join(top, 'cli/main.ts'))) {
    if (!existsSync(join(top, 'node_modules/esbuild'))) {
      console.error('muster: the dependencies are not installed: run `npm ci` in this checkout first')
      process.exitCode = 1
      return
    }
    const { build, isBuilt } = await import('../scripts/build.mjs')
    if (!(await isBuilt())) {
      if (process.stderr.isTTY) console.error('muster: building …')
      await build()
    }
  }
  // A child with the same terminal: the program's own import.meta.url, signals and exit code are as without a launcher.
  const child = spawn(process.execPath, [...process.execArgv, file, ...process.argv.slice(2)], {
    stdio: 'inherit',
  })
  const forward = signal => child.kill(signal)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, forward)
  child.on('error', error => {
    console.error(`muster: ${error.message}`)
    process.exitCode = 1
  })
  child.on('exit', (code, signal) => {
    if (signal) {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeListener(name, forward)
      process.kill(process.pid, signal)
    } else process.exitCode = code ?? 1
  })
}
