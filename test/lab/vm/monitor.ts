import { connect } from 'node:net'
import { withDeadline } from '../../../shared/lifecycle.ts'

/** Sends one command to qemu's monitor (QMP) and waits until it is done. */
export async function sendToMonitor(socketPath: string, command: string): Promise<void> {
  await withDeadline(
    30_000,
    undefined,
    signal =>
      new Promise<void>((resolve, reject) => {
        const socket = connect(socketPath)
        signal.addEventListener('abort', () => socket.destroy(), { once: true })
        let text = ''
        let returns = 0
        socket.setEncoding('utf8').on('data', (data: string) => {
          // The greeting comes first; then one line for each command, among events.
          if (text === '')
            socket.write(`{"execute":"qmp_capabilities"}\n${JSON.stringify({ execute: command })}\n`)
          text += data
          returns = text.split('\n').filter(line => line.startsWith('{"return"')).length
          if (text.includes('"error"')) reject(new Error(`${command}: ${text}`))
          if (returns === 2) {
            socket.end()
            resolve()
          }
        })
        socket.on('error', reject)
        socket.on('close', () => reject(new Error(`the monitor closed before ${command} was done`)))
      }),
  )
}
