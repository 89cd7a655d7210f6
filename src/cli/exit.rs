//! What the program ends with.

/// Nothing is wrong, and with `--detailed-exitcode` nothing would change.
pub const EXIT_OK: u8 = 0;
/// Something is wrong.
pub const EXIT_ERROR: u8 = 1;
/// With `--detailed-exitcode`: something would change.
pub const EXIT_CHANGES: u8 = 2;
