import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Envelope, EnvelopeSchema } from '../gen/muster/v1/envelope_pb.ts'
import { MAX_PAYLOAD_BYTES } from './envelope.ts'

/** Payload, and room for type and signatures. */
export const MAX_ENVELOPE_BYTES = MAX_PAYLOAD_BYTES + 64 * 1024

export function encodeEnvelope(envelope: Envelope): Uint8Array {
  return toBinary(EnvelopeSchema, envelope)
}

/**
 * Reads an envelope from a file; undefined when it is none. The decoder is lenient about the frame around the fields, so
 * bytes that do not come out again as they went in are refused: a damaged file is noticed, also where the damage would
 * do no harm.
 */
export function decodeEnvelope(bytes: Uint8Array): Envelope | undefined {
  if (bytes.length > MAX_ENVELOPE_BYTES) return undefined
  try {
    const envelope = fromBinary(EnvelopeSchema, bytes)
    return Buffer.from(encodeEnvelope(envelope)).equals(bytes) ? envelope : undefined
  } catch {
    return undefined
  }
}
