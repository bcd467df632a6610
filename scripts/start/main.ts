import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runDemo } from '../demo/run-demo.ts'
import { HELP, OptionError, readOptions } from './options.ts'
import { runStart } from './run-start.ts'

/** What `npm start` does once everything is installed and built. Gives the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  // This file is bundled into dist/.
  const top = join(fileURLToPath(import.meta.url), '../..')
  let options: ReturnType<typeof readOptions>
  try {
    options = readOptions(argv)
  } catch (error) {
    if (!(error instanceof OptionError)) throw error
    console.error(`npm start: ${error.message}\nnpm start -- --help lists what there is`)
    return 2
  }
  switch (options.kind) {
    case 'help':
      process.stdout.write(HELP)
      return 0
    case 'start':
      return await runStart(top, options)
    case 'demo':
      return await runDemo(top, options)
  }
}
