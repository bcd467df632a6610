export type Style = 'plain' | 'good' | 'warn' | 'bad' | 'dim' | 'bold'

const CODES: Readonly<Record<Style, string>> = {
  plain: '',
  good: '\u001b[32m',
  warn: '\u001b[33m',
  bad: '\u001b[31m',
  dim: '\u001b[2m',
  bold: '\u001b[1m',
}

/** A text in colour, where colour is wanted. */
export function paint(text: string, style: Style, colour: boolean): string {
  return colour && style !== 'plain' && text !== '' ? `${CODES[style]}${text}\u001b[0m` : text
}
