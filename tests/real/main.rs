//! tenantd on private engines of the real kind, with real runc and real runsc.
//!
//! Each group of cases has an engine of its own and runs its cases one after the other, because an
//! apply concerns a whole fleet. Tampering goes through the engine's own interface,
//! as an operator would. Nothing is skipped: what is missing on the machine fails the test.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod attacks;
mod builds;
mod container;
mod crash;
mod daemon;
mod drift;
mod egress;
mod elsewhere;
mod engine;
mod engine_settings;
mod failures;
mod files;
mod fleet;
mod gvisor;
mod inside;
mod logs;
mod network;
mod others;
mod provided;
mod runtimes;
mod soak;
mod state;
mod workspace;
