//! What is known of each attribute of a resource. One table for each kind of resource says all of it: comparing, repairing,
//! rendering, recording and showing it on the line of a tenant's file ask here.
//!
//! The tables of what has a canonical form stand with that form.

mod row;

use super::resource::Resource;

pub use super::{container::attributes as container, network::attributes as network};
pub use row::{Attribute, FORGOTTEN, Repair, Unit, Weakens};
pub(in crate::model) use row::{form, table};

/// All attributes of a kind of resource. Those that distinguish one object from another come first, in the order of records.
pub fn of(resource: Resource) -> &'static [&'static Attribute] {
    match resource {
        Resource::Container => container::ALL,
        Resource::Network => network::ALL,
        Resource::Workspace => workspace::ALL,
        Resource::Files => files::ALL,
        Resource::Egress => egress::ALL,
        Resource::Archive => &[],
    }
}

/// An attribute by its name. One that nobody thought of is [`Weakens::Always`] and [`Repair::Replace`].
pub fn find(resource: Resource, name: &str) -> &'static Attribute {
    of(resource).iter().copied().find(|attribute| attribute.name == name).unwrap_or(&FORGOTTEN)
}

/// An attribute by its name alone, as records have it: those of one name are shown alike in all tables.
pub fn named(name: &str) -> Option<&'static Attribute> {
    Resource::ALL.into_iter().flat_map(of).copied().find(|attribute| attribute.name == name)
}

table! {
    /// Of a workspace.
    workspace {
        PATH = "path".judged().identifies();
        BACKEND = "backend".judged().identifies();
        LIMIT = "limit".judged().unit(Unit::Bytes).setting("limits.disk").identifies();
        IMAGE_SIZE = "image_size".judged().unit(Unit::Bytes).setting("limits.disk");
        UID = "uid".judged();
        MODE = "mode".judged();
        NOEXEC = "noexec".judged().setting("hardening.workspaceNoexec");
        OPTIONS = "options".judged();
        FOLDER = "folder".judged();
        LINK = "link".judged();
        MOUNT = "mount".judged();
        STATE = "state".judged();
        RESTORED = "restored".judged();
    }
}

table! {
    /// Of the files at /config.
    files {
        PATH = "path".judged().identifies();
        CONTENT = "content".judged().setting("files").identifies();
        FOREIGN = "foreign".judged();
        NOTED = "noted".judged();
    }
}

table! {
    /// Of an egress path.
    egress {
        LINK = "link".judged().identifies();
        BRIDGE = "bridge".judged().identifies();
        SUBNET = "subnet".judged().identifies();
        ADDRESS = "address".judged().identifies();
        ALLOW = "allow".judged().setting("allowlist").identifies();
        ROUTES = "routes".judged().setting("credentials").identifies();
        BUDGET = "budget".judged().setting("budget").identifies();
        SECRETS = "secrets".judged().setting("credentials").identifies();
        ADDRESSES = "addresses".judged();
        HOST_SIDE = "host_side".judged();
        SYSCTLS = "sysctls".judged();
        POLICY = "policy".judged();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Container, Network};

    fn names(resource: Resource, wanted: fn(&Attribute) -> bool) -> BTreeSet<&'static str> {
        of(resource).iter().filter(|attribute| wanted(attribute)).map(|attribute| attribute.name).collect()
    }

    #[test]
    fn the_tables_and_the_canonical_forms_have_the_same_attributes() {
        let forms =
            [(Resource::Container, json!(Container::default())), (Resource::Network, json!(Network::default()))];
        for (resource, form) in forms {
            let Value::Object(form) = form else { panic!("{form} has no attributes") };
            let form: BTreeSet<&str> = form.keys().map(String::as_str).collect();
            assert_eq!(names(resource, |attribute| attribute.is_of_form), form);
        }
        for resource in [Resource::Workspace, Resource::Files, Resource::Egress] {
            assert_eq!(names(resource, |attribute| attribute.is_of_form), BTreeSet::new());
        }
    }

    #[test]
    fn what_has_no_row_is_weaker_and_replaces() {
        let unknown = find(Resource::Container, "an attribute of a later version");
        assert_eq!((unknown.weakens, unknown.repair, unknown.settable), (Weakens::Always, Repair::Replace, false));
    }

    #[test]
    fn attributes_of_one_name_are_one_in_a_table_and_shown_alike_in_all() {
        for resource in Resource::ALL {
            assert_eq!(names(resource, |_| true).len(), of(resource).len(), "{resource:?}");
            for attribute in of(resource) {
                let shown = named(attribute.name).map(|first| (first.label, first.unit, first.reported_by));
                assert_eq!(shown, Some((attribute.label, attribute.unit, attribute.reported_by)), "{attribute:?}");
            }
        }
    }
}
