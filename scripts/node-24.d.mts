/** Whether there is a package of it for this platform. */
export const hasNode24: boolean
/** Its folder, with bin/node and include/; installed where it is not there yet. Throws when it cannot be had. */
export function node24Folder(): string
