/**
 * The bytes that are signed: DSSE's pre-authentication encoding. Both lengths are stated, so that no bytes can move
 * between type and payload.
 */
export function encodePreAuth(payloadType: string, payload: Uint8Array): Buffer {
  const type = Buffer.from(payloadType, 'utf8')
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${type.length} `, 'utf8'),
    type,
    Buffer.from(` ${payload.length} `, 'utf8'),
    payload,
  ])
}
