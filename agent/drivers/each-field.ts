import { BinaryReader, type WireType } from '@bufbuild/protobuf/wire'

/** Reads a message field by field: `take` reads the field and says so, or leaves it. */
export function eachField(
  bytes: Uint8Array,
  take: (number: number, reader: BinaryReader, wire: WireType) => boolean,
): void {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag()
    if (!take(number, reader, wire)) reader.skip(wire, number)
  }
}
