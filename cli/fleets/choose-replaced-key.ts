import { CliError } from '../exit-codes.ts'

export interface OwnKey {
  /** Where this operator's own key lies, or would. */
  readonly path: string
  /** undefined: there is none. */
  readonly keyId: string | undefined
}

/**
 * Which key a rotation replaces: the one whose place the new key takes. Others sign along where several must, and keep their keys, in
 * whatever order their files were named.
 */
export function chooseReplacedKey(
  own: OwnKey,
  signers: readonly string[],
  trusted: readonly string[],
): string {
  const { path, keyId } = own
  if (keyId === undefined) {
    // Whose key it is that lies elsewhere is plain only where nobody else signs.
    const [only, second] = signers
    if (only !== undefined && second === undefined && trusted.includes(only)) return only
    throw new CliError(
      'refused',
      `${path}: is not there, so which of the keys given is to be replaced is not known: put your own key there`,
    )
  }
  const named = `${path} (key ${keyId.slice(0, 12)})`
  if (!trusted.includes(keyId)) {
    throw new CliError(
      'refused',
      `${named}: is no key of the trust set in force, so there is nothing to replace; --add FILE lets a new key in`,
    )
  }
  if (!signers.includes(keyId)) {
    throw new CliError(
      'refused',
      `${named}: is the key that would be replaced, and is not among those that sign; give it with --key as well`,
    )
  }
  return keyId
}
