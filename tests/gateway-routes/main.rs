//! Routes with keys, over real sockets on loopback and real TLS, with an authority of the tests' own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod credits;
mod injection;
mod redaction;
mod streams;
mod world;
