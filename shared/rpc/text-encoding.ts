import { configureTextEncoding } from '@bufbuild/protobuf/wire'

/**
 * Has messages write their texts by Node's own encoder: the one of the web, which protobuf-es takes by itself, costs
 * four times as much for a short text (650 ns beside 160). Both give the same bytes. Texts are read as protobuf-es does it.
 */
export function useFastTextEncoding(): void {
  const lenient = new TextDecoder()
  const strict = new TextDecoder('utf-8', { fatal: true })
  configureTextEncoding({
    // A message copies what it is given, so a piece of Node's pool may be given.
    encodeUtf8: text => Buffer.from(text, 'utf8'),
    decodeUtf8: (bytes, isStrict) => (isStrict === true ? strict : lenient).decode(bytes),
    checkUtf8(text) {
      try {
        encodeURIComponent(text)
        return true
      } catch {
        return false
      }
    },
  })
}
