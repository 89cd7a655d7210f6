//! What moves bytes between a tenant and where it was let through to.

pub(crate) mod answer;
pub(crate) mod gathered;
pub(crate) mod relay;
pub(crate) mod request_validator;
pub(crate) mod waiting;
pub(crate) mod wire;
