//! The vocabulary: validated values, what is desired, what is observed, and the plan between them.
//!
//! Everything here is data. Nothing reads a file, asks an engine or looks at a clock.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod approval;
pub mod attribute;
pub mod change;
pub mod claim;
pub mod condition;
pub mod container;
pub mod desired;
pub mod egress;
pub mod engine_defaults;
pub mod files;
pub mod finding;
pub mod host;
pub mod image;
pub mod ingress;
pub mod invalid;
pub mod name;
pub mod network;
pub mod observed;
pub mod obstacle;
pub mod pairs;
pub mod plan;
pub mod policy;
pub mod power;
pub mod quantity;
pub mod record;
pub mod resource;
pub mod revision;
pub mod runtime;
pub mod shown;
pub mod signer;
pub mod status;
pub mod step;
pub mod token;
pub mod tree;
pub mod workspace;

pub use claim::Claim;
pub use container::{Container, Mount};
pub use desired::{Desired, Tenant};
pub use egress::{Destination, EgressPolicy, SecretName};
pub use engine_defaults::EngineDefaults;
pub use finding::{Finding, Severity, Span};
pub use host::Host;
pub use image::ImageRef;
pub use ingress::{Access, Expose};
pub use invalid::Invalid;
pub use name::{TenantName, TierName};
pub use network::Network;
pub use observed::Observed;
pub use obstacle::Obstacle;
pub use pairs::Pairs;
pub use plan::{Plan, TenantPlan};
pub use policy::{DriftMode, Policy};
pub use power::{Power, PowerHold, PowerReason, Powers};
pub use quantity::{Bytes, Cpus, Pids};
pub use record::{Entry, Record};
pub use revision::Revision;
pub use runtime::RuntimeClass;
pub use signer::SignerKey;
pub use status::Status;
pub use step::{PlannedStep, Step};
pub use token::{Token, TokenId};

/// The label that names the tenant on each container and network that tenantd made.
pub const TENANT_LABEL: &str = "io.tenantd.tenant";

/// The label with the hash of what was declared when the object was made.
pub const SPEC_LABEL: &str = "io.tenantd.spec";

/// The label with the limits that a container was created with, `memory=…;nano_cpus=…;pids=…`.
///
/// Labels cannot change on a container that lives, limits can: the pair distinguishes a limit that someone
/// changed by hand from one that a commit changed. It explains; it never decides.
pub const LIMITS_LABEL: &str = "io.tenantd.limits";

/// The label with the options that the engine's own configuration gave a container or network as it was made, as a JSON
/// object; absent where it gave none.
pub const ENGINE_LABEL: &str = "io.tenantd.engine";

/// The label with a value that each creation of a container writes anew, and nothing else ever does.
///
/// It distinguishes labels that a container was given from those of its image. Nothing compares it: it is in no [`Container`].
pub const CREATION_LABEL: &str = "io.tenantd.creation";

/// What each name of a container or network of ours starts with.
///
/// It holds characters that are not hexadecimal, so that no engine takes a name for the short form
/// of an id.
pub const NAME_PREFIX: &str = "tenantd-";

/// What the name of a container ends with until the one that it replaces is gone.
///
/// The dot cannot stand in a tenant's name, so it is no other tenant's.
pub const REPLACEMENT_SUFFIX: &str = ".new";
