// Loaded into the coordinator before its own program (`node --import`): collects garbage and takes profiles when asked,
// so that the program itself needs no door for it.
import { hookCommands } from './hook-commands.ts'
import { answerCommands } from './worker.ts'

answerCommands(hookCommands, { unref: true })

// A benchmark that was cut off must not leave it running.
process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
