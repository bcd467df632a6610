/** What a packed tree may be. Both sides hold to it: what cannot be unpacked must not be published. */
export const MAX_TREE_BYTES = 256 * 1024 * 1024
export const MAX_FILE_BYTES = 64 * 1024 * 1024
/** Files and symbolic links; the folders they imply are counted apart, up to the same number. */
export const MAX_ENTRIES = 100_000
export const MAX_PATH_BYTES = 4096
/** The longest name Linux file systems take. */
export const MAX_NAME_BYTES = 255
export const MAX_DEPTH = 64
