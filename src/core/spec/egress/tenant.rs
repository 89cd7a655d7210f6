//! A tenant's credentials and budget.

use std::collections::{BTreeMap, BTreeSet};

use super::files::{BudgetFile, CostFile, CredentialFile, InjectFile};
use crate::{
    model::{
        Finding, SecretName,
        egress::{Budget, Cost, Inject, Route, RouteName, Sealed},
    },
    spec::{
        decode::{Located, LocatedMap},
        fleet::value,
    },
};

/// The most routes of one tenant.
const MAX_ROUTES: usize = 100;

/// The routes that a file declares.
pub(in crate::spec) fn routes(
    file: &str,
    field: Option<&Located<Vec<Located<CredentialFile>>>>,
    findings: &mut Vec<Finding>,
) -> Vec<Route> {
    let Some(field) = field else { return Vec::new() };
    let entries = field.get().map_or(&[][..], Vec::as_slice);
    if entries.len() > MAX_ROUTES {
        let message = format!("there are {} credentials", entries.len());
        let help = format!("keep them to {MAX_ROUTES}");
        findings.push(field.error(file, "out-of-range", &message, Some(&help)));
    }
    let mut known: BTreeSet<&RouteName> = BTreeSet::new();
    let mut routes = Vec::with_capacity(entries.len());
    for content in entries.iter().filter_map(Located::get) {
        if let Some(name) = content.route.get()
            && !known.insert(name)
        {
            let message = format!("the route /{name}/ is declared twice");
            findings.push(content.route.error(file, "duplicate-route", &message, Some("give each a name of its own")));
        }
        routes.extend(route(file, content, findings));
    }
    routes.sort_by(|a, b| a.name.cmp(&b.name));
    routes
}

fn route(file: &str, content: &CredentialFile, findings: &mut Vec<Finding>) -> Option<Route> {
    let inject = inject(file, &content.inject, findings);
    Some(Route {
        name: content.route.get()?.clone(),
        upstream: content.upstream.get()?.clone(),
        inject: inject?,
        cost: value(content.cost.as_ref()).and_then(cost),
    })
}

fn inject(file: &str, field: &Located<InjectFile>, findings: &mut Vec<Finding>) -> Option<Inject> {
    const FORM: &str = "write {header: NAME, value: …}, {query: NAME, value: …} or {basic: {username: …, password: …}}";
    let inject = field.get()?;
    let named = [inject.header.is_some(), inject.query.is_some(), inject.basic.is_some()];
    let message = match named.into_iter().filter(|is_named| *is_named).count() {
        0 => Some("it says nowhere where the secret goes"),
        1 if inject.value.is_some() && inject.basic.is_some() => Some("`value` does not go with `basic`"),
        1 if inject.value.is_none() && inject.basic.is_none() => Some("it says not what is added"),
        1 => None,
        _ => Some("a secret goes to one place, and several are named"),
    };
    if let Some(message) = message {
        findings.push(field.error(file, "bad-inject", message, Some(FORM)));
        return None;
    }
    let template = || value(inject.value.as_ref()).cloned();
    if let Some(header) = value(inject.header.as_ref()) {
        return Some(Inject::Header { name: header.0.to_ascii_lowercase(), value: template()? });
    }
    if let Some(query) = value(inject.query.as_ref()) {
        return Some(Inject::Query { name: query.0.clone(), value: template()? });
    }
    let basic = value(inject.basic.as_ref())?;
    Some(Inject::Basic { username: basic.username.get()?.0.clone(), password: basic.password.get()?.clone() })
}

fn cost(file: &CostFile) -> Option<Cost> {
    Some(Cost {
        reserve: u64::from(file.reserve.get()?.0),
        settle: value(file.settle.as_ref()).map(|pointer| pointer.0.clone()),
        stream: value(file.stream.as_ref()).copied().unwrap_or_default(),
    })
}

/// The secrets that a file holds itself. One that no route uses is a slip.
pub(in crate::spec) fn sealed(
    file: &str,
    field: &LocatedMap<SecretName, Sealed>,
    routes: &[Route],
    findings: &mut Vec<Finding>,
) -> BTreeMap<SecretName, Sealed> {
    let used: BTreeSet<&SecretName> = routes.iter().flat_map(|route| route.inject.template().secrets()).collect();
    let mut all = BTreeMap::new();
    for (name, text) in field {
        let (Some(secret), Some(content)) = (name.get(), text.get()) else { continue };
        if !used.contains(secret) {
            let message = format!("no credential uses the secret {secret}");
            let help = format!("write ${{secret:{secret}}} in one of `credentials`, or remove it");
            findings.push(name.error(file, "unused-secret", &message, Some(&help)));
        }
        all.insert(secret.clone(), content.clone());
    }
    all
}

/// The budget that a file declares.
pub(in crate::spec) fn budget(field: Option<&Located<BudgetFile>>) -> Budget {
    let credits =
        |field: &Option<Located<super::values::Credits>>| value(field.as_ref()).map(|number| u64::from(number.0));
    value(field).map_or_else(Budget::default, |file| Budget { day: credits(&file.day), month: credits(&file.month) })
}
