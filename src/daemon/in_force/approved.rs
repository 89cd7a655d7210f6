//! Which approvals count for what a commit loosens. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::waits::Waits;
use crate::{
    model::{
        approval::{ALL, Agreement, all, line},
        finding::printable,
        host::Approvals,
        quantity::Timespan,
        shown::short_id,
    },
    source::{Approval, ApprovalHistory},
};

/// How far ahead of this host's clock an approval's time may lie, in seconds.
const AHEAD: i64 = 600;

/// How many approvals are remembered. Only approvers can make one more.
const MOST_SPENT: usize = 10_000;

/// How many approvals that do not count are named for one tenant.
const MOST_REFUSED: usize = 3;

/// Approvals that count no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::daemon) struct Spent {
    /// Each by its id, with its time.
    ids: BTreeMap<String, i64>,
    /// None counts that is as old as this one or older: those that were forgotten are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

impl Spent {
    pub(in crate::daemon) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.until.is_none()
    }

    fn holds(&self, approval: &Approval) -> bool {
        self.ids.contains_key(&approval.id) || self.until.is_some_and(|until| approval.at <= until)
    }

    /// Remembers the approvals that an accepted commit has behind it, and forgets those that are too old to count. Where
    /// it may have more than are known, none counts any more that was made before this second.
    pub(in crate::daemon) fn add(&mut self, approvals: &ApprovalHistory, max_age: Timespan, now: i64) {
        let ApprovalHistory { new, earlier, complete } = approvals;
        self.ids.extend(new.iter().chain(earlier).map(|approval| (approval.id.clone(), approval.at)));
        let oldest = now.saturating_sub(seconds(max_age));
        let mut times: Vec<i64> = self.ids.values().copied().collect();
        times.sort_unstable();
        let too_many = times.len().checked_sub(MOST_SPENT).and_then(|more| times.get(more.checked_sub(1)?));
        let too_old = times.iter().rev().find(|at| **at < oldest);
        let unknown = (!complete).then(|| now.saturating_sub(1));
        self.until = [self.until, too_many.copied(), too_old.copied(), unknown].into_iter().flatten().max();
        if let Some(until) = self.until {
            self.ids.retain(|_, at| *at > until);
        }
    }
}

/// Takes the tenants out of those that wait whose declaration somebody approved, with who that was. Those that go on
/// waiting learn which approvals do not count for them, and why.
pub(in crate::daemon) fn take(
    waiting: &mut BTreeMap<String, Waits>,
    approvals: &[Approval],
    settings: &Approvals,
    spent: &Spent,
    now: i64,
) -> BTreeMap<String, (String, Waits)> {
    let declarations: BTreeMap<String, String> =
        waiting.iter().map(|(name, waits)| (name.clone(), waits.declaration.clone())).collect();
    let mut agreed: BTreeMap<String, String> = BTreeMap::new();
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for approval in approvals {
        for agreement in &approval.agreements {
            let wanted = match agreement.tenant.as_str() {
                ALL => all(&declarations),
                name => declarations.get(name).cloned().unwrap_or_default(),
            };
            let meant = declarations.keys().filter(|name| agreement.tenant == ALL || agreement.tenant == **name);
            let why = fault(approval, agreement, &wanted, settings, spent, now);
            for name in meant {
                match &why {
                    None => drop(agreed.entry(name.clone()).or_insert_with(|| approval.by.clone())),
                    Some(why) => refused.entry(name.clone()).or_default().push(format!(
                        "the approval of {} in {} does not count: {why}",
                        approval.by,
                        short_id(&approval.commit)
                    )),
                }
            }
        }
    }
    for (name, mut why) in refused {
        why.truncate(MOST_REFUSED);
        if let Some(waits) = waiting.get_mut(&name) {
            waits.refused = why;
        }
    }
    agreed.into_iter().filter_map(|(name, by)| waiting.remove(&name).map(|waits| (name, (by, waits)))).collect()
}

/// Why an approval does not count for what it names, if so.
fn fault(
    approval: &Approval,
    agreement: &Agreement,
    wanted: &str,
    settings: &Approvals,
    spent: &Spent,
    now: i64,
) -> Option<String> {
    let Approvals { fleet, max_age, .. } = settings;
    let Agreement { tenant: _, declaration, fleet: meant } = agreement;
    match (declaration, meant) {
        (None, _) => return Some("it names no declaration".to_owned()),
        (_, None) => return Some("it names no fleet".to_owned()),
        (_, Some(meant)) if meant != fleet => return Some(format!("it is for the fleet {}", printable(meant))),
        (Some(declaration), _) if declaration != wanted => return Some("it is for another declaration".to_owned()),
        (Some(_), Some(_)) => {}
    }
    if spent.holds(approval) {
        return Some("it came before, and counts once".to_owned());
    }
    let age = now.saturating_sub(approval.at);
    if age > seconds(*max_age) {
        return Some(format!("it is older than {max_age}"));
    }
    (age < -AHEAD).then(|| "its time lies ahead of this host's clock".to_owned())
}

/// The line that approves everything that waits, where that is more than one tenant.
pub(in crate::daemon) fn line_for_all(waiting: &BTreeMap<String, String>, fleet: &str) -> Option<String> {
    (waiting.len() > 1).then(|| line(ALL, &all(waiting), fleet))
}

fn seconds(span: Timespan) -> i64 {
    i64::try_from(span.get().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::approval::read;

    const NOW: i64 = 2_000_000_000;
    const DAY: i64 = 86_400;

    fn waits(declaration: &str) -> Waits {
        Waits { declaration: declaration.to_owned(), ..Waits::default() }
    }

    fn waiting() -> BTreeMap<String, Waits> {
        BTreeMap::from([("ant".to_owned(), waits("aa")), ("bee".to_owned(), waits("bb"))])
    }

    fn approval(id: &str, at: i64, value: &str) -> Approval {
        Approval { commit: "c".repeat(40), by: "ada".to_owned(), id: id.to_owned(), at, agreements: read(value) }
    }

    fn all_of(new: Vec<Approval>) -> ApprovalHistory {
        ApprovalHistory { new, earlier: Vec::new(), complete: true }
    }

    fn settings() -> Approvals {
        Approvals { fleet: "prod".to_owned(), ..Approvals::default() }
    }

    /// The tenants that an approval lets in, and why it does not count for `ant`.
    fn taken(approval: Approval, spent: &Spent) -> (Vec<String>, String) {
        let mut waiting = waiting();
        let taken = take(&mut waiting, &[approval], &settings(), spent, NOW);
        let refused = waiting.get("ant").map(|waits| waits.refused.join("; ")).unwrap_or_default();
        (taken.into_keys().collect(), refused)
    }

    #[test]
    fn an_approval_counts_for_what_it_says_here_and_now() {
        let both = all(&BTreeMap::from([("ant", "aa"), ("bee", "bb")].map(|(a, b)| (a.to_owned(), b.to_owned()))));
        for (value, at, names, why) in [
            ("ant@aa; fleet=prod", NOW, &["ant"][..], ""),
            ("ant@aa, bee@bb; fleet=prod", NOW, &["ant", "bee"], ""),
            ("ant@aa; fleet=prod", NOW - 30 * DAY, &["ant"], ""),
            ("ant@aa; fleet=prod", NOW + AHEAD, &["ant"], ""),
            (&format!("*@{both}; fleet=prod"), NOW, &["ant", "bee"], ""),
            ("ant@aa; fleet=prod", NOW - 30 * DAY - 1, &[], "it is older than 720h"),
            ("ant@aa; fleet=prod", NOW + AHEAD + 1, &[], "ahead of this host's clock"),
            ("ant@aa; fleet=prod", i64::MIN, &[], "it is older than 720h"),
            ("ant@aa; fleet=prod", i64::MAX, &[], "ahead of this host's clock"),
            ("ant@aa; fleet=test", NOW, &[], "it is for the fleet test"),
            ("ant@aa", NOW, &[], "it names no fleet"),
            ("ant", NOW, &[], "it names no declaration"),
            ("*", NOW, &[], "it names no declaration"),
            ("*@aa; fleet=prod", NOW, &[], "it is for another declaration"),
            ("ant@bb; fleet=prod", NOW, &[], "it is for another declaration"),
            ("ant@; fleet=prod", NOW, &[], "it is for another declaration"),
            ("ant@a; fleet=prod", NOW, &[], "it is for another declaration"),
            // Of a tenant that does not wait, nothing is said.
            ("cat@; fleet=prod", NOW, &[], ""),
        ] {
            let (agreed, refused) = taken(approval("1", at, value), &Spent::default());
            assert_eq!(agreed, names, "{value}");
            assert!(refused.ends_with(why) && refused.is_empty() == why.is_empty(), "{value}: {refused}");
        }
    }

    #[test]
    fn an_approval_counts_once_however_often_it_comes_and_however_many_there_were() {
        let mut spent = Spent::default();
        spent.add(&all_of(vec![approval("1", NOW - DAY, "ant@aa; fleet=prod")]), settings().max_age, NOW);
        assert!(taken(approval("1", NOW - DAY, "ant@aa; fleet=prod"), &spent).1.contains("counts once"));
        assert_eq!(taken(approval("2", NOW - DAY, "ant@aa; fleet=prod"), &spent).0, ["ant"]);
        // Those that are forgotten count no more by their age, whatever the clock and max_age say later.
        let many: Vec<Approval> = (0..=MOST_SPENT).map(|n| approval(&format!("m{n}"), NOW - DAY + 1, "x")).collect();
        spent.add(&all_of(many), settings().max_age, NOW);
        assert!(spent.ids.len() <= MOST_SPENT);
        for id in ["1", "m0", "m7"] {
            assert!(spent.holds(&approval(id, NOW - DAY, "x")), "{id}");
        }
        let mut spent = Spent::default();
        spent.add(&all_of(vec![approval("1", NOW - DAY, "x")]), settings().max_age, NOW);
        spent.add(&all_of(vec![]), settings().max_age, NOW + 40 * DAY);
        assert!(spent.ids.is_empty() && spent.holds(&approval("1", NOW - DAY, "x")));
        assert!(!spent.holds(&approval("2", NOW, "x")));
    }
    #[test]
    fn where_there_may_be_more_none_counts_that_was_made_before() {
        let mut spent = Spent::default();
        let (new, earlier) = (vec![approval("1", NOW, "x")], vec![approval("2", NOW + AHEAD, "x")]);
        spent.add(&ApprovalHistory { new, earlier, complete: false }, settings().max_age, NOW);
        for (id, at, is_spent) in
            [("1", NOW, true), ("2", NOW + AHEAD, true), ("3", NOW - 1, true), ("3", i64::MIN, true), ("3", NOW, false)]
        {
            assert_eq!(spent.holds(&approval(id, at, "x")), is_spent, "{id} {at}");
        }
        // It stays so when later commits are known whole.
        spent.add(&all_of(vec![]), settings().max_age, NOW + DAY);
        assert!(spent.holds(&approval("3", NOW - 1, "x")) && !spent.holds(&approval("3", NOW, "x")));
    }
}
