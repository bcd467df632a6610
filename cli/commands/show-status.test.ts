import { expect, it } from 'vitest'
import { runMuster } from '../testing/run-muster.ts'
import { startSmallCoordinator } from '../testing/small-coordinator.ts'
import { STATUS_FIELDS } from './show-status.ts'

it('names in its fields all that JSON has, of which CSV leaves out the machines', async () => {
  await using coordinator = await startSmallCoordinator()
  const status = async (format: string) =>
    (await runMuster(['status', '-o', format], { settings: { socket: coordinator.socket } })).out
  expect(Object.keys(JSON.parse(await status('json'))).sort()).toEqual([...STATUS_FIELDS].sort())
  const [header] = (await status('csv')).split('\r\n')
  expect(header?.split(',')).toEqual(STATUS_FIELDS.filter(field => field !== 'machines'))
})
