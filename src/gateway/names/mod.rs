//! From a name to a connection: looked up once, judged, and the very addresses that were judged dialled.

pub mod dial;

pub(crate) mod race;
pub(crate) mod resolved;

mod resolve;
