//! The stricter of two declarations of one tenant: what may be in force where an older one takes the place of a newer
//! one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Mark,
    marks::{self, covers},
    settings::{Listed, Setting, Visitor, visit},
};
use crate::model::{
    Destination, Expose, SecretName, Tenant,
    egress::{Route, RouteName, Sealed},
};

/// The older of two declarations as far as it is not looser than the newer one, setting by setting, by the marks of a
/// review. Of destinations, exposed ports, routes, their keys and a shared folder it has what both have.
///
/// A review from `newer` to the result has nothing that loosens, whatever the two are.
pub fn stricter(older: &Tenant, newer: &Tenant) -> Tenant {
    if older == newer {
        return newer.clone();
    }
    let mut mix = Mix { older, newer, bare: [bare(older), bare(newer)], result: newer.clone() };
    // The room follows from the tier, and is no less than the disk of the same side.
    mix.prefer(&older.disk_room, |tenant| &mut tenant.disk_room);
    visit(&mut mix);
    mix.result
}

/// A declaration that becomes the stricter of two; it begins as the newer one.
struct Mix<'a> {
    older: &'a Tenant,
    newer: &'a Tenant,
    /// Both, without what may be long in them.
    bare: [Tenant; 2],
    result: Tenant,
}

impl Visitor for Mix<'_> {
    fn setting<T: Clone + PartialEq>(&mut self, setting: &Setting<T>) {
        self.prefer((setting.of)(self.older), setting.at);
    }

    fn listed(&mut self, setting: Listed) {
        let (older, newer) = (self.older, self.newer);
        match setting {
            Listed::Environment => self.environment(&older.environment),
            Listed::Allowlist => self.result.allowlist = in_both(&older.allowlist, &newer.allowlist),
            Listed::Expose => self.result.expose = exposed_by_both(&older.expose, &newer.expose),
            Listed::Access => self.prefer(&older.access, |tenant| &mut tenant.access),
            Listed::Routes => self.result.routes = self.routes(&older.routes),
            Listed::Sealed => self.result.sealed = equal_in_both(&older.sealed, &newer.sealed),
            Listed::Source => self.result.source = older.source.clone().filter(|_| older.source == newer.source),
            Listed::Files => self.prefer(&older.files, |tenant| &mut tenant.files),
            Listed::Restore => self.restore(older),
            Listed::Rules => self.result.rules = older.rules.union(&newer.rules).cloned().collect(),
        }
    }
}

impl Mix<'_> {
    /// Takes the older value of a setting, unless that loosens the newer declaration.
    fn prefer<T: PartialEq + Clone>(&mut self, older: &T, at: fn(&mut Tenant) -> &mut T) {
        let newer = std::mem::replace(at(&mut self.result), older.clone());
        if newer != *older && loosens(self.newer, &self.result) {
            *at(&mut self.result) = newer;
        }
    }

    /// Takes what the older side has brought back, or nothing where the newer's would loosen the older side.
    fn restore(&mut self, older: &Tenant) {
        self.prefer(&older.restore, |tenant| &mut tenant.restore);
        let with = |restore| Tenant { restore, ..self.bare[0].clone() };
        if self.result.restore != older.restore && loosens(older, &with(self.result.restore.clone())) {
            self.result.restore = None;
        }
    }

    /// Takes the older variables, or where not all of them may be had, each as it loosens neither side.
    fn environment(&mut self, older: &BTreeMap<String, String>) {
        self.prefer(older, |tenant| &mut tenant.environment);
        if self.result.environment == *older {
            return;
        }
        let newer = &self.newer.environment;
        let names: BTreeSet<&String> = older.keys().chain(newer.keys()).collect();
        let alone = |value: Option<&String>, name: &str| value.map(|value| (name.to_owned(), value.clone()));
        let chosen = names.into_iter().filter_map(|name| {
            let is_free = |value: Option<&String>| {
                self.bare.iter().zip([older.get(name), newer.get(name)]).all(|(side, its)| {
                    let with = |value| Tenant { environment: alone(value, name).into_iter().collect(), ..side.clone() };
                    !loosens(&with(its), &with(value))
                })
            };
            let value = [older.get(name), newer.get(name), None].into_iter().find(|value| is_free(*value));
            alone(value.unwrap_or_else(|| newer.get(name)), name)
        });
        self.result.environment = chosen.collect();
    }

    /// The routes that both have, each as it loosens neither side, and with the same keys.
    fn routes(&self, older: &[Route]) -> Vec<Route> {
        let newer: BTreeMap<&RouteName, &Route> = self.newer.routes.iter().map(|route| (&route.name, route)).collect();
        let is_kept = |name: &SecretName| self.older.sealed.get(name) == self.newer.sealed.get(name);
        let both = older.iter().filter_map(|older| {
            let newer = *newer.get(&older.name)?;
            let is_free = |route: &Route| {
                self.bare.iter().zip([older, newer]).all(|(side, its)| {
                    let with = |route: &Route| Tenant { routes: vec![route.clone()], ..side.clone() };
                    route == its || !loosens(&with(its), &with(route))
                })
            };
            let one = [older, newer].into_iter().find(|one| is_free(one))?;
            one.inject.template().secrets().all(is_kept).then(|| one.clone())
        });
        both.collect()
    }
}

/// A declaration without what may be long in it.
fn bare(tenant: &Tenant) -> Tenant {
    Tenant {
        command: None,
        environment: BTreeMap::new(),
        source: None,
        files: Vec::new(),
        restore: None,
        allowlist: BTreeSet::new(),
        expose: BTreeMap::new(),
        routes: Vec::new(),
        sealed: BTreeMap::new(),
        rules: BTreeSet::new(),
        ..tenant.clone()
    }
}

fn loosens(before: &Tenant, after: &Tenant) -> bool {
    marks::tenant(Some(before), Some(after)).iter().any(|effect| effect.mark == Mark::Loosens)
}

/// The destinations that both sides let a tenant reach: of a wildcard or a range and what it covers, the narrower one.
fn in_both(one: &BTreeSet<Destination>, other: &BTreeSet<Destination>) -> BTreeSet<Destination> {
    let covered = |narrow: &Destination, by: &BTreeSet<Destination>| by.iter().any(|wide| covers(wide, narrow));
    let narrow = |these: &BTreeSet<Destination>, those: &BTreeSet<Destination>| {
        these.iter().filter(|this| those.contains(this) || covered(this, those)).cloned().collect::<Vec<_>>()
    };
    narrow(one, other).into_iter().chain(narrow(other, one)).collect()
}

/// The ports that both sides expose, with the older side's paths.
fn exposed_by_both(older: &BTreeMap<u16, Expose>, newer: &BTreeMap<u16, Expose>) -> BTreeMap<u16, Expose> {
    let both = older.iter().filter(|(port, _)| newer.contains_key(port));
    both.map(|(port, expose)| (*port, expose.clone())).collect()
}

/// The sealed values that both sides have. Another value of the same name is another key.
fn equal_in_both(
    one: &BTreeMap<SecretName, Sealed>,
    other: &BTreeMap<SecretName, Sealed>,
) -> BTreeMap<SecretName, Sealed> {
    one.iter().filter(|(name, value)| other.get(name) == Some(value)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{
            RuntimeClass,
            desired::Limits,
            tree::{SourceFile, Tree},
        },
        review::arbitrary,
        spec,
    };

    fn of(text: &str) -> Tenant {
        let file = |path: &str, text: String| SourceFile { path: path.to_owned(), bytes: text.into() };
        let head = "apiVersion: tenantd/v1\nkind: ";
        let files = vec![
            file("fleet.yaml", format!("{head}Fleet\ndefaults: {{tier: free, image: agent:1}}\n")),
            file("tenants/ant.yaml", format!("{head}Tenant\ntenant: ant\n{text}")),
        ];
        let desired = spec::compile(&Tree { files, ..Tree::default() });
        let tenant = desired.tenants.get("ant").unwrap_or_else(|| panic!("{text}: {:?}", desired.findings));
        Tenant::clone(tenant)
    }

    fn allowlist(tenant: &Tenant) -> Vec<String> {
        tenant.allowlist.iter().map(|one| serde_json::to_value(one).unwrap().as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_a_tightening_took_away_does_not_come_back_with_what_ran_before() {
        let older = of("image: agent:1\nallowlist: [a.example.com:443, b.example.com:443]\nlimits: {memory: 256MiB}\n");
        let newer = of("image: agent:2\nallowlist: [a.example.com:443, c.example.com:443]\nlimits: {memory: 64MiB}\n\
             runtime: gvisor\nbudget: {day: 5}\n");
        let mix = stricter(&older, &newer);
        assert_eq!(mix.image, older.image);
        assert_eq!(allowlist(&mix), ["a.example.com:443"]);
        assert_eq!(
            (mix.class, mix.limits.memory, mix.budget.day),
            (RuntimeClass::Gvisor, newer.limits.memory, Some(5))
        );
        // The other way around, what the newer one loosens is not taken.
        let mix = stricter(&newer, &older);
        assert_eq!((mix.image, mix.class), (newer.image, RuntimeClass::Gvisor));
    }

    #[test]
    fn of_a_wildcard_and_what_it_covers_the_narrower_one_is_left() {
        let older = of("allowlist: ['*.example.com:443', x.example.org:443]\n");
        let newer = of("allowlist: [a.example.com:443, '*.b.example.com:443', x.example.org:80]\n");
        let expected = ["*.b.example.com:443", "a.example.com:443"];
        let sorted = |tenant: &Tenant| {
            let mut all = allowlist(tenant);
            all.sort();
            all
        };
        assert_eq!(sorted(&stricter(&older, &newer)), expected);
        assert_eq!(sorted(&stricter(&newer, &older)), expected);
    }

    #[test]
    fn a_key_that_was_changed_does_not_come_back() {
        let with = |number: u8| {
            let text = format!("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl{number}A==\n-----END AGE ENCRYPTED FILE-----");
            let mut tenant = of("credentials: [{route: /crm/, upstream: 'https://crm.example.com', inject: {header: \
                authorization, value: 'Bearer ${secret:crm}'}}]\n");
            tenant.sealed.insert("crm".parse().unwrap(), text.parse().unwrap());
            tenant
        };
        let same = stricter(&with(1), &with(1));
        assert_eq!((same.routes.len(), same.sealed.len()), (1, 1));
        let mix = stricter(&with(1), &with(2));
        assert!(mix.routes.is_empty() && mix.sealed.is_empty(), "{mix:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn the_stricter_of_two_loosens_neither(older in arbitrary::tenant(), newer in arbitrary::tenant()) {
            let mix = stricter(&older, &newer);
            prop_assert!(!loosens(&newer, &mix), "{:?}", marks::tenant(Some(&newer), Some(&mix)));
            prop_assert!(!loosens(&older, &mix), "{:?}", marks::tenant(Some(&older), Some(&mix)));
            let Limits { disk, .. } = mix.limits;
            prop_assert!(disk <= mix.disk_room);
        }

        #[test]
        fn it_is_settled_by_one_step(older in arbitrary::tenant(), newer in arbitrary::tenant()) {
            let mix = stricter(&older, &newer);
            prop_assert_eq!(&stricter(&mix, &newer), &mix);
            prop_assert_eq!(&stricter(&mix, &mix), &mix);
            prop_assert_eq!(&stricter(&newer, &newer), &newer);
        }

        /// What is narrowed once more still has nothing that any of them took away.
        #[test]
        fn three_in_a_row_loosen_none(
            first in arbitrary::tenant(),
            second in arbitrary::tenant(),
            third in arbitrary::tenant(),
        ) {
            let mix = stricter(&stricter(&first, &second), &third);
            for one in [&first, &second, &third] {
                prop_assert!(!loosens(one, &mix), "{:?}", marks::tenant(Some(one), Some(&mix)));
            }
        }
    }
}
