import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fromBinary } from '@bufbuild/protobuf'
import { SecretRelay } from '../../../coordinator/clusters/secret-relay.ts'
import { SealedBodySchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { sealSecret } from '../../../shared/sealing/seal-secret.ts'
import { readBinding } from '../../../shared/sealing/secret-binding.ts'
import { SecretBytes } from '../../../shared/sealing/secret-bytes.ts'
import { SWAP_FILE, type Swap } from './swap.ts'

/*
 * The coordinator as somebody would run it who took its machine over: all of it is the real program, but the sealed secrets that servers
 * mint are thrown away, and joiners are given one of another cluster, which is bound to the same machine, operation and time.
 */

// A cast: the test that starts this wrote the file.
const swap = JSON.parse(readFileSync(process.env[SWAP_FILE] ?? '', 'utf8')) as Swap
const minterKey = createPrivateKey(swap.minterKeyPem)
const recipientKey = Buffer.from(swap.recipientKey, 'base64')
const { put } = SecretRelay.prototype

SecretRelay.prototype.put = function (operation, secret, expiresMs, nowMs) {
  // A cast: the coordinator has relays of sealed secrets alone.
  const { body } = secret as { readonly body: Uint8Array }
  const reading = readBinding(fromBinary(SealedBodySchema, body).binding)
  if (!reading.ok) throw new Error(reading.reason)
  const foreign = sealSecret({
    binding: reading.binding,
    secret: new SecretBytes(Buffer.from(swap.secret)),
    recipientKey,
    minterKey,
  })
  put.call(this, operation, foreign, expiresMs, nowMs)
}

await import('../../../coordinator/main.ts')
