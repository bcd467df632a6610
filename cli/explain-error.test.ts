import { status } from '@grpc/grpc-js'
import { expect, it } from 'vitest'
import { RpcError } from '../shared/rpc/rpc-error.ts'
import { explainCallError } from './explain-error.ts'

it('names what a person typed, and not the field of the request that it became', () => {
  const told = (message: string) => {
    const explained = explainCallError(new RpcError(status.INVALID_ARGUMENT, message), 'here', 'start it')
    return explained instanceof Error ? explained.message : ''
  }
  expect(told('settings.max_failures: has a meaning with --on-failure continue alone')).toBe(
    '--max-failures: has a meaning with --on-failure continue alone',
  )
  expect(told('settings.canaries: at most 100')).toBe('--canary: at most 100')
  expect(told('sort[0]: x is not known')).toBe('--sort[0]: x is not known')
  expect(told('group_by[1]: is an aggregate')).toBe('--group-by[1]: is an aggregate')
  expect(told('host: nobody is the settings.soak: of it')).toBe('host: nobody is the settings.soak: of it')
})
