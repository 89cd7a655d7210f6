//! What several commands read out of the history of a config repo.

use super::{args::Global, setup};
use crate::{
    review::history::{Brought, InForce},
    source::{At, Keys, SourceError},
    spec,
};

/// The keys that count on this host. Elsewhere there are none, and signatures are only told of.
pub fn keys(global: &Global) -> Keys {
    Keys::new(setup::host(global).map(|host| host.verify).unwrap_or_default())
}

/// Brings a commit into force, and says what that changed; `None` where it concerns nobody.
pub fn bring(in_force: &mut InForce, at: &At<'_>) -> Result<Option<Brought>, SourceError> {
    let changed = &at.changed;
    let concerned = in_force.concerned(changed.policy, changed.files, &changed.tenants);
    if concerned.as_ref().is_some_and(|tenants| tenants.is_empty()) {
        return Ok(None);
    }
    let declared = spec::compile(&at.read(concerned.as_ref())?);
    Ok(Some(in_force.take(concerned.as_ref(), declared)))
}
