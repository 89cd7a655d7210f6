//! What comes in, in the files: the host's settings of it, and the ports that a tenant exposes.

pub mod files;

mod host;
mod tenant;
mod values;

pub(super) use host::{check, settings};
pub(super) use tenant::expose;
