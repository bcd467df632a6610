/** Thrown inside this folder when a tree breaks a rule; what leaves the folder is a value with its reason. */
export class TreeRefusal extends Error {
  override readonly name = 'TreeRefusal'
}
