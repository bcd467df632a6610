/** Which secret joiners are given instead of theirs by a coordinator that was taken over. */
export interface Swap {
  /** Who signs it. */
  readonly minterKeyPem: string
  /** SubjectPublicKeyInfo of the machine that is to join, DER, base64. */
  readonly recipientKey: string
  /** What is sealed. */
  readonly secret: string
}

/** The variable that names the file of the swap. */
export const SWAP_FILE = 'MUSTER_TEST_SWAP'
