/** Thrown inside this folder when a tree breaks a rule; what leaves the folder is a value with its reason. */
export class TreeRefusal extends Error {
  override readonly name: string = 'TreeRefusal'
}

/** Which files there are only the program git can tell, and it is not installed. */
export class GitMissing extends TreeRefusal {
  override readonly name = 'GitMissing'
}
