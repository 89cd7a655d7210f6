//! Feeds `compare::client_hello`.

#![no_main]

#[path = "../../parsers/compare.rs"]
#[expect(dead_code, reason = "each target feeds one of the comparisons")]
mod compare;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| compare::client_hello(bytes));
