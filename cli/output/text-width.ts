const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u

/** How many columns a text takes on a terminal. */
export function textWidth(text: string): number {
  // The usual case, without the cost of segments.
  if (/^[\u0020-\u007e]*$/.test(text)) return text.length
  let width = 0
  for (const { segment } of segmenter.segment(text)) width += WIDE.test(segment) ? 2 : 1
  return width
}

/** A text that takes at most so many columns; one that was cut ends with an ellipsis. */
export function cutToWidth(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text
  let cut = ''
  let width = 0
  for (const { segment } of segmenter.segment(text)) {
    width += textWidth(segment)
    if (width > columns - 1) break
    cut += segment
  }
  return columns > 0 ? `${cut}…` : ''
}

export function padToWidth(text: string, columns: number): string {
  return text + ' '.repeat(Math.max(0, columns - textWidth(text)))
}

/** A text on at most so many lines, broken between words; what has no room is cut. */
export function wrapWords(text: string, columns: number, mostLines: number): readonly string[] {
  const lines: string[] = []
  let line = ''
  const words = text.split(' ')
  for (const [at, word] of words.entries()) {
    const longer = line === '' ? word : `${line} ${word}`
    if (textWidth(longer) <= columns || line === '') {
      line = longer
    } else if (lines.length + 1 >= mostLines) {
      line = [line, ...words.slice(at)].join(' ')
      break
    } else {
      lines.push(line)
      line = word
    }
  }
  return [...lines, line].map(each => cutToWidth(each, columns))
}

/** A whole text on as many lines as it takes, broken between words and, where one has no room, within it. */
export function wrapText(text: string, columns: number): readonly string[] {
  if (textWidth(text) <= columns) return [text]
  if (columns < 1) return ['']
  const words = text.split(' ').flatMap(word => breakWord(word, columns))
  return wrapWords(words.join(' '), columns, Number.POSITIVE_INFINITY)
}

function breakWord(word: string, columns: number): readonly string[] {
  if (textWidth(word) <= columns) return [word]
  const pieces: string[] = []
  let piece = ''
  for (const { segment } of segmenter.segment(word)) {
    if (piece !== '' && textWidth(piece) + textWidth(segment) > columns) {
      pieces.push(piece)
      piece = ''
    }
    piece += segment
  }
  return [...pieces, piece]
}
