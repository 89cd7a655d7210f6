//! Declarations of tenants that are in force without being the newest: what they are made of, and how they are found
//! again. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    model::{Revision, Tenant, status::at_which},
    review::stricter,
};

/// How many commits a declaration is made of before those are left out that add nothing, and all that is open to the
/// tenant is closed if that is not enough. After that as many commits are needed as there are limits, at most.
const MOST_PARTS: usize = 8;

/// The commits that a declaration is made of: one that declares it, or several of which it is the strictest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub(in crate::daemon) struct Composition {
    /// The commit whose declaration it is, as far as no later one is stricter.
    pub(in crate::daemon) base: Revision,
    /// The commits that narrow it, in their order.
    pub(in crate::daemon) narrowed_by: Vec<Revision>,
    /// Whether all that was open to the tenant is closed, because too many narrow it.
    closed: bool,
    /// The commit that declares the tier, where that is not the base's.
    tier: Option<Revision>,
}

/// As the state file has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    One(Revision),
    Several {
        base: Revision,
        narrowed_by: Vec<Revision>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        closed: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<Revision>,
    },
}

impl From<Written> for Composition {
    fn from(written: Written) -> Self {
        match written {
            Written::One(revision) => revision.into(),
            Written::Several { base, narrowed_by, closed, tier } => Self { base, narrowed_by, closed, tier },
        }
    }
}

impl From<Composition> for Written {
    fn from(Composition { base, narrowed_by, closed, tier }: Composition) -> Self {
        match narrowed_by.is_empty() && !closed && tier.is_none() {
            true => Self::One(base),
            false => Self::Several { base, narrowed_by, closed, tier },
        }
    }
}

impl From<Revision> for Composition {
    fn from(base: Revision) -> Self {
        Self { base, narrowed_by: Vec::new(), closed: false, tier: None }
    }
}

impl Composition {
    /// All of its commits, in their order; that of the tier comes last.
    pub(in crate::daemon) fn revisions(&self) -> impl Iterator<Item = &Revision> {
        std::iter::once(&self.base).chain(&self.narrowed_by).chain(&self.tier)
    }

    /// What a tenant stands at, in words.
    pub(in crate::daemon) fn words(&self) -> String {
        at_which(&self.base, &self.narrowed_by, |revision| revision.short().to_owned())
    }
}

/// Where a tenant stands, in words.
pub(in crate::daemon) fn stands_at(composition: Option<&Composition>) -> String {
    composition.map_or_else(|| "it is not made".to_owned(), |at| format!("it stands at {}", at.words()))
}

/// What one commit declares of a tenant.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    revision: Revision,
    tenant: Arc<Tenant>,
}

/// A tenant's declaration, and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::daemon) struct Declaration {
    pub(in crate::daemon) tenant: Arc<Tenant>,
    base: Part,
    narrowed_by: Vec<Part>,
    closed: bool,
    tier: Option<Part>,
}

impl Declaration {
    /// What a commit declares.
    pub(in crate::daemon) fn new(revision: Revision, tenant: Arc<Tenant>) -> Self {
        Self::of(Part { revision, tenant }, Vec::new(), false, None)
    }

    /// What a composition says, with what each of its commits declares. `None` where one of them is not known.
    pub(in crate::daemon) fn read(of: &Composition, known: impl Fn(&Revision) -> Option<Arc<Tenant>>) -> Option<Self> {
        let part = |revision: &Revision| Some(Part { revision: revision.clone(), tenant: known(revision)? });
        let narrowed_by: Option<Vec<Part>> = of.narrowed_by.iter().map(part).collect();
        let tier = match &of.tier {
            Some(revision) => Some(part(revision)?),
            None => None,
        };
        Some(Self::of(part(&of.base)?, narrowed_by?, of.closed, tier))
    }

    fn of(base: Part, narrowed_by: Vec<Part>, closed: bool, tier: Option<Part>) -> Self {
        let mut tenant = Arc::clone(&base.tenant);
        for part in &narrowed_by {
            tenant = Arc::new(stricter(&tenant, &part.tenant));
        }
        if closed {
            let open = Arc::make_mut(&mut tenant);
            open.allowlist.clear();
            open.expose.clear();
            open.routes.clear();
            open.sealed.clear();
            open.source = None;
        }
        if let Some(part) = &tier {
            Arc::make_mut(&mut tenant).tier.clone_from(&part.tenant.tier);
        }
        Self { tenant, base, narrowed_by, closed, tier }
    }

    pub(in crate::daemon) fn composition(&self) -> Composition {
        let narrowed_by = self.narrowed_by.iter().map(|part| part.revision.clone());
        Composition {
            base: self.base.revision.clone(),
            narrowed_by: narrowed_by.collect(),
            closed: self.closed,
            tier: self.tier.as_ref().map(|part| part.revision.clone()),
        }
    }

    /// This declaration as far as it is not looser than another.
    pub(in crate::daemon) fn narrowed(&self, by: &Self) -> Self {
        let mix = stricter(&self.tenant, &by.tenant);
        if mix == *self.tenant {
            return self.clone();
        }
        if mix == *by.tenant {
            return by.clone();
        }
        let mut narrowed_by = self.narrowed_by.clone();
        let others = std::iter::once(&by.base).chain(&by.narrowed_by);
        narrowed_by.extend(others.filter(|part| **part != self.base && !self.narrowed_by.contains(part)).cloned());
        let mut narrowed = Self::of(self.base.clone(), narrowed_by, self.closed || by.closed, self.tier.clone());
        while narrowed.narrowed_by.len() > MOST_PARTS {
            narrowed = match narrowed.with_less() {
                Some(less) => less,
                None if narrowed.closed => break,
                None => Self::of(narrowed.base, narrowed.narrowed_by, true, narrowed.tier),
            };
        }
        narrowed
    }

    /// The same in the tier of another declaration.
    pub(in crate::daemon) fn in_tier_of(self, other: &Self) -> Self {
        if self.tenant.tier == other.tenant.tier {
            return self;
        }
        let tier = other.tier.clone().unwrap_or_else(|| other.base.clone());
        Self::of(self.base, self.narrowed_by, self.closed, Some(tier))
    }

    /// The same of one commit less, if one adds nothing.
    fn with_less(&self) -> Option<Self> {
        (0..self.narrowed_by.len()).find_map(|index| {
            let mut parts = self.narrowed_by.clone();
            parts.remove(index);
            let less = Self::of(self.base.clone(), parts, self.closed, self.tier.clone());
            (less.tenant == self.tenant).then_some(less)
        })
    }
}
