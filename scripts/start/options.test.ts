import { describe, expect, it } from 'vitest'
import { OptionError, readOptions } from './options.ts'

const environment = { HOME: '/home/ann' }

describe('readOptions', () => {
  it('starts in the state folder of the XDG specification, on the loopback', () => {
    expect(readOptions([], environment)).toEqual({
      kind: 'start',
      state: '/home/ann/.local/state/muster',
      enrolmentPort: undefined,
      fleetPort: undefined,
      listen: '127.0.0.1',
    })
    expect(readOptions([], { ...environment, XDG_STATE_HOME: '/var/state' })).toMatchObject({
      state: '/var/state/muster',
    })
    expect(readOptions([], { ...environment, XDG_STATE_HOME: 'relative' })).toMatchObject({
      state: '/home/ann/.local/state/muster',
    })
  })

  it('takes folder, ports and address as they are said', () => {
    const argv = ['--state', '/tmp/x', '--enrolment-port', '17443', '--fleet-port', '17444', '--listen', '::']
    expect(readOptions(argv, environment)).toEqual({
      kind: 'start',
      state: '/tmp/x',
      enrolmentPort: 17443,
      fleetPort: 17444,
      listen: '::',
    })
  })

  it('knows the demo', () => {
    expect(readOptions(['--demo'], environment)).toEqual({ kind: 'demo', exit: false, keep: false })
    expect(readOptions(['--demo', '--exit', '--keep'], environment)).toEqual({
      kind: 'demo',
      exit: true,
      keep: true,
    })
    expect(readOptions(['--help'], environment)).toEqual({ kind: 'help' })
  })

  it.each([
    [['--enrolment-port', '0'], '--enrolment-port 0: must be a number from 1 to 65535'],
    [['--fleet-port', '65536'], '--fleet-port 65536: must be'],
    [['--fleet-port', '7x'], '--fleet-port 7x: must be'],
    [['--fleet-port', '5', '--enrolment-port', '5'], 'must differ'],
    [['--listen', 'everywhere'], '--listen everywhere: must be an IP address'],
    [['--exit'], '--exit is for --demo'],
    [['--keep'], '--keep is for --demo'],
    [['--demo', '--state', '/tmp/x'], '--demo has a folder and ports of its own'],
    [['--demo', '--fleet-port', '5'], '--demo has a folder and ports of its own'],
    [['--nonsense'], '--nonsense'],
    [['word'], 'word'],
  ])('refuses %j', (argv, message) => {
    expect(() => readOptions(argv, environment)).toThrow(OptionError)
    expect(() => readOptions(argv, environment)).toThrow(message)
  })
})
