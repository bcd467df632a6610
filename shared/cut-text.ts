/**
 * The first `most` characters (UTF-16 units) of a text, one less where that would cut a character in two. Halves of characters become
 * U+FFFD, as they do on the wire and in the store: what is hashed here must be what is read there.
 */
export function cutText(text: string, most: number): string {
  const splits = isHighHalf(text.charCodeAt(most - 1)) && isLowHalf(text.charCodeAt(most))
  return wellFormed(text.slice(0, splits ? most - 1 : most))
}

export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd')
}

const isHighHalf = (unit: number) => unit >= 0xd800 && unit <= 0xdbff
const isLowHalf = (unit: number) => unit >= 0xdc00 && unit <= 0xdfff
