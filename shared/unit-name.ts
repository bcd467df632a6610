const UNIT =
  /^[A-Za-z0-9:_.@][A-Za-z0-9:_.\\@-]{0,240}\.(service|socket|target|timer|mount|automount|path|slice|scope|swap|device)$/

/** Whether a text is the name of one systemd unit with its suffix: neither an option nor a pattern. */
export function isUnitName(text: string): boolean {
  return UNIT.test(text)
}
