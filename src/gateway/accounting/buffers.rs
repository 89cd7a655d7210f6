//! How many bytes may lie between a tenant and a destination without being counted one by one.

/// What is reserved for a connection that speaks HTTP, in bytes: what it and the one behind it read at once,
/// and the bookkeeping of requests. What waits beyond that is reserved as it comes.
pub const HTTP: u64 = 32 << 10;

/// What the kernel may keep of what a socket inside was given to send, in bytes: `tcp_wmem` of the
/// gateway's namespace.
pub const INSIDE: u64 = 256 << 10;

/// The same for a socket to a destination, of what was not sent yet, and with it what the socket inside
/// may have received: `tcp_rmem`.
pub const OUTSIDE: u64 = UNSENT as u64 + (512 << 10);

/// How much a destination's socket takes that it cannot send yet, in bytes.
pub const UNSENT: u32 = 128 << 10;

/// What a destination's socket may receive ahead for a tenant that takes too little and has used up its own part of the memory,
/// in bytes. The kernel doubles it for what it keeps around them.
pub const AHEAD: usize = 64 << 10;
