import { status } from '@grpc/grpc-js'
import { expect, it } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { CliError } from '../exit-codes.ts'
import { watch } from './watch.ts'

const notAsked = () => {
  throw new Error('no coordinator is asked here')
}

/** Watches what these say one after the other, without a pause to speak of, until the last has been asked. */
async function watchAll(...pictures: readonly (string | Error)[]): Promise<string> {
  const stop = new AbortController()
  let shown = ''
  const io = {
    out: (text: string) => {
      shown += text
    },
    err: () => {},
    outIsTerminal: false,
    errIsTerminal: false,
    columns: 80,
    colour: false,
    screen: { columns: 80, rows: 24 },
    onResize: () => () => {},
    readerGone: new AbortController().signal,
  }
  const settings = {
    socket: undefined,
    profile: undefined,
    configHome: '/nonexistent/muster',
    noColour: true,
    columns: undefined,
  }
  const cli = { io, settings, signal: stop.signal, clock: systemClock, connection: notAsked }
  let at = 0
  await watch(cli, 0.001, async () => {
    const picture = pictures[at] ?? ''
    at += 1
    if (at >= pictures.length) stop.abort()
    if (picture instanceof Error) throw picture
    return picture
  })
  return shown
}

it('goes on when the coordinator stops answering, by whichever error that is told, and says so', async () => {
  const gone = new RpcError(status.UNAVAILABLE, 'connect ENOENT')
  const late = new CliError('unavailable', 'the coordinator did not answer in time')
  const shown = await watchAll('one\n', gone, late, 'two\n')
  expect(shown).toMatch(
    /one\n.*connect ENOENT\nIt is asked again in .*\nthe coordinator did not answer in time\n.*two\n/s,
  )
  const refused = new RpcError(status.PERMISSION_DENIED, 'no operator')
  await expect(watchAll('one\n', refused, 'two\n')).rejects.toThrow('no operator')
})
