//! Whose a container is, by its labels: those that it was given, or those that its image brought.

use super::{CREATION_LABEL, Pairs, SPEC_LABEL, TENANT_LABEL};

/// What the labels of a container or an image say of a tenant.
///
/// `docker commit` writes a container's labels into the image, and every container of that image has them again. They are
/// the image's then, and no claim of the container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The tenant that is named.
    pub tenant: Option<String>,
    spec: Option<String>,
    /// What each creation writes anew.
    creation: Option<String>,
}

impl Claim {
    /// What labels say.
    pub fn of(labels: &Pairs) -> Self {
        let label = |name: &str| labels.get(name).cloned();
        Self { tenant: label(TENANT_LABEL), spec: label(SPEC_LABEL), creation: label(CREATION_LABEL) }
    }

    /// Whether a container of an image with these labels has this claim from there. One without a value of its creation
    /// was made by a version that wrote none, unless the image has the very labels.
    pub fn is_inherited(&self, image: &Self) -> bool {
        match &self.creation {
            Some(own) => image.creation.as_ref() == Some(own),
            None => self.tenant.is_some() && (&self.tenant, &self.spec) == (&image.tenant, &image.spec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(labels: &[(&str, &str)]) -> Claim {
        Claim::of(&labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn labels_of_the_image_are_no_claim_of_the_container() {
        let (tenant, spec, made) = ((TENANT_LABEL, "ant"), (SPEC_LABEL, "s1"), (CREATION_LABEL, "c1"));
        let (other, respecified, again) = ((TENANT_LABEL, "bee"), (SPEC_LABEL, "s2"), (CREATION_LABEL, "c2"));
        let (plain, committed, older) = (claim(&[]), claim(&[tenant, spec, made]), claim(&[tenant, spec]));
        let named = claim(&[tenant]);
        for (what, container, image, inherited) in [
            ("a tenant's own", &[tenant, spec, made][..], &plain, false),
            ("run of its commit", &[tenant, spec, made], &committed, true),
            ("run of its commit under another name", &[other, spec, made], &committed, true),
            ("the tenant itself, made of its commit", &[tenant, spec, again], &committed, false),
            ("another tenant, made of its commit", &[other, respecified, again], &committed, false),
            ("the tenant, made of an older commit", &[tenant, spec, made], &older, false),
            ("an older version's", &[tenant, spec], &plain, false),
            ("run of an older version's commit", &[tenant, spec], &older, true),
            ("an older version's, made of a commit", &[tenant, respecified], &older, false),
            ("an older version's of another tenant", &[other, respecified], &older, false),
            ("an older version's, made of a commit since", &[tenant, spec], &committed, true),
            ("labelled by hand", &[tenant], &plain, false),
            ("of an image that names a tenant", &[tenant], &named, true),
            ("nobody's", &[], &plain, false),
        ] {
            assert_eq!(claim(container).is_inherited(image), inherited, "{what}");
        }
    }
}
