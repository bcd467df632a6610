/** What no text from a machine may bring onto a terminal: control characters and those that turn the direction of writing. */
export const HAZARDOUS = /[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u
