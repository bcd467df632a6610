/** The agent's own files are missing, damaged or in use. It never starts afresh by itself: a person must look. */
export class StateError extends Error {
  override readonly name = 'StateError'
}
