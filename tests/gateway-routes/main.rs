//! Routes with keys, over real sockets on loopback and real TLS, with an authority of the tests' own.

mod credits;
mod injection;
mod redaction;
mod streams;
mod world;
