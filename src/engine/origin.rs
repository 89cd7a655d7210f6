//! Whether a container's labels are its own, or came with its image.

use std::sync::Arc;

use crate::model::{Claim, NAME_PREFIX, REPLACEMENT_SUFFIX};

/// Whose a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nobody's.
    Foreign,
    /// This tenant's.
    Tenant(String),
    /// It has this tenant's label from its image.
    Inherited(String),
    /// It has this tenant's label, and nobody can say where from.
    Unsettled(String, String),
}

impl Origin {
    /// The tenant whose it is, as far as is known: what has the label counts until it is known to come from elsewhere.
    pub(super) fn tenant(&self) -> Option<&String> {
        match self {
            Self::Tenant(tenant) | Self::Unsettled(tenant, _) => Some(tenant),
            Self::Foreign | Self::Inherited(_) => None,
        }
    }

    /// The tenant that it merely looks like.
    pub(super) fn looks_like(&self) -> Option<&String> {
        match self {
            Self::Inherited(tenant) => Some(tenant),
            Self::Foreign | Self::Tenant(_) | Self::Unsettled(..) => None,
        }
    }
}

/// What is known of an image's labels.
#[derive(Clone, Debug)]
pub(super) enum ImageClaim {
    Known(Arc<Claim>),
    Gone,
    Unknown(String),
}

impl Origin {
    /// Whose a container is that claims something, and was made of such an image.
    pub(super) fn of(claim: &Claim, name: &str, image: &ImageClaim) -> Self {
        let Some(tenant) = claim.tenant.clone() else { return Self::Foreign };
        match image {
            ImageClaim::Known(image) if claim.is_inherited(image) => Self::Inherited(tenant),
            ImageClaim::Known(_) => Self::Tenant(tenant),
            // Only one container has the tenant's name.
            ImageClaim::Gone if is_named(name, &tenant) => Self::Tenant(tenant),
            ImageClaim::Gone => Self::Unsettled(
                tenant,
                "its image is gone, so that nobody can say whether its labels came from there; remove it if it is not \
                 needed"
                    .to_owned(),
            ),
            ImageClaim::Unknown(reason) => {
                Self::Unsettled(tenant, format!("its image, which may have brought its labels: {reason}"))
            }
        }
    }
}

/// Whether a container has the name of a tenant's, or that of its replacement.
fn is_named(name: &str, tenant: &str) -> bool {
    let name = name.strip_suffix(REPLACEMENT_SUFFIX).unwrap_or(name);
    name.strip_prefix(NAME_PREFIX) == Some(tenant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CREATION_LABEL, TENANT_LABEL};

    #[test]
    fn without_its_image_a_container_is_whose_name_it_has_or_nobody_knows() {
        let labels = [(TENANT_LABEL, "ant"), (CREATION_LABEL, "c1")];
        let claim = Claim::of(&labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect());
        let ours = Origin::Tenant("ant".to_owned());
        for name in ["tenantd-ant", "tenantd-ant.new"] {
            assert_eq!(Origin::of(&claim, name, &ImageClaim::Gone), ours, "{name}");
        }
        for name in ["mydebug", "tenantd-bee", "tenantd-ant-2", "ant"] {
            let origin = Origin::of(&claim, name, &ImageClaim::Gone);
            assert!(matches!(origin, Origin::Unsettled(ref tenant, _) if tenant == "ant"), "{name}: {origin:?}");
        }
        let unknown = ImageClaim::Unknown("the engine is busy".to_owned());
        let origin = Origin::of(&claim, "tenantd-ant", &unknown);
        assert!(matches!(&origin, Origin::Unsettled(_, why) if why.ends_with("the engine is busy")), "{origin:?}");
        let same = ImageClaim::Known(Arc::new(claim.clone()));
        assert_eq!(Origin::of(&claim, "tenantd-ant", &same), Origin::Inherited("ant".to_owned()));
        assert_eq!(Origin::of(&Claim::default(), "tenantd-ant", &ImageClaim::Gone), Origin::Foreign);
    }
}
