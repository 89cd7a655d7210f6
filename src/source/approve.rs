//! Approvals: signed commits that name a fleet, and the declarations of tenants whose loosening they agree to.

use std::collections::BTreeSet;

use git2::{Oid, Repository, Sort};

use super::{Mirror, SourceError, signature::Signed};
use crate::model::{
    approval::{self, Agreement},
    files::digest,
    host::Signer,
};

/// How many commits are looked through, newest first.
const MOST: usize = 10_000;

/// How many approvals of one head are judged, newest first.
const MOST_APPROVALS: usize = 100;

/// A commit that approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Who signed it.
    pub by: String,
    /// By what it is known again: a hash of what is signed, and of whose key signed it. Another form of the same
    /// signature makes another commit, and no other approval.
    pub id: String,
    /// When it was made, in seconds since 1970, as it is signed.
    pub at: i64,
    /// What it agrees to.
    pub agreements: Vec<Agreement>,
}

/// The approvals that a head brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApprovalHistory {
    /// Those that came since the accepted commit: they may count.
    pub new: Vec<Approval>,
    /// Others that the head descends from, as far as they are known: they count no more.
    pub earlier: Vec<Approval>,
    /// Whether there are no more than these: not so where it is unknown what was accepted, or where there are too many.
    pub complete: bool,
}

impl Mirror {
    /// The approvals of some signers among the commits that are reachable from the head and not from the accepted one,
    /// whatever their dates. Where nothing was accepted before, that of the head alone is new; where the accepted commit
    /// is not known any more, or the source is shallow, none is: an old approval must not come back.
    ///
    /// # Errors
    /// The head is not known, or the mirror is damaged.
    pub fn approvals(
        &self,
        approvers: &[Signer],
        accepted: Option<&str>,
        head: &str,
    ) -> Result<ApprovalHistory, SourceError> {
        let repository = self.repository()?;
        let head = self.commit(&repository, head)?.id();
        if !self.boundary()?.is_empty() {
            return Ok(ApprovalHistory::default());
        }
        let is_first = accepted.is_none();
        let accepted = match accepted.map(|id| self.commit(&repository, id)) {
            None | Some(Err(SourceError::Revision { .. })) => None,
            Some(Ok(commit)) => Some(commit.id()),
            Some(Err(e)) => return Err(e),
        };
        let read = || -> Result<ApprovalHistory, git2::Error> {
            let ids = candidates(&repository, accepted, head)?;
            let mut complete = accepted.is_some() && ids.len() < MOST;
            let mut found = Vec::new();
            for id in ids {
                found.extend(approval(&repository, approvers, id)?.map(|approval| (id, approval)));
                if found.len() == MOST_APPROVALS {
                    complete = false;
                    break;
                }
            }
            let old = match accepted {
                Some(accepted) if !found.is_empty() => ancestors(&repository, accepted)?,
                _ => BTreeSet::new(),
            };
            let is_new = |id: &Oid| if accepted.is_some() { !old.contains(id) } else { is_first && *id == head };
            let (new, earlier): (Vec<_>, Vec<_>) = found.into_iter().partition(|(id, _)| is_new(id));
            let [new, earlier] = [new, earlier].map(|some| some.into_iter().map(|(_, approval)| approval).collect());
            Ok(ApprovalHistory { new, earlier, complete })
        };
        read().map_err(|e| self.damaged(e))
    }
}

/// What is reachable from the head and perhaps not from the accepted commit, newest first: the walk follows dates where it
/// hides, so that some of these may be old.
fn candidates(repository: &Repository, accepted: Option<Oid>, head: Oid) -> Result<Vec<Oid>, git2::Error> {
    let mut walk = repository.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    walk.push(head)?;
    if let Some(accepted) = accepted {
        walk.hide(accepted)?;
    }
    walk.take(MOST).collect()
}

/// A commit and all that it descends from, by their parents alone.
fn ancestors(repository: &Repository, commit: Oid) -> Result<BTreeSet<Oid>, git2::Error> {
    let mut known = BTreeSet::from([commit]);
    let mut open = vec![commit];
    while let Some(id) = open.pop() {
        let commit = repository.find_commit(id)?;
        open.extend(commit.parent_ids().filter(|parent| known.insert(*parent)));
    }
    Ok(known)
}

/// What a commit approves, if it does and its signature counts.
fn approval(repository: &Repository, approvers: &[Signer], id: Oid) -> Result<Option<Approval>, git2::Error> {
    let commit = repository.find_commit(id)?;
    let agreements = agreements(&String::from_utf8_lossy(commit.message_bytes()));
    if agreements.is_empty() {
        return Ok(None);
    }
    let object = repository.odb()?.read(id)?.data().to_vec();
    // One whose signature does not count approves nothing.
    let Ok(signed) = Signed::of(&object) else { return Ok(None) };
    let Ok(signer) = signed.ssh_signer(approvers) else { return Ok(None) };
    let signed_by = [signer.key.fingerprint().as_bytes(), &[0], &*signed.content].concat();
    Ok(Some(Approval {
        commit: id.to_string(),
        by: signer.name.clone(),
        id: digest(&signed_by),
        at: commit.time().seconds(),
        agreements,
    }))
}

/// What the trailers of a message agree to.
fn agreements(message: &str) -> Vec<Agreement> {
    let Ok(trailers) = git2::message_trailers_strs(message) else { return Vec::new() };
    let values = trailers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(approval::TRAILER));
    let all: BTreeSet<Agreement> = values.flat_map(|(_, value)| approval::read(value)).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::agreements;

    #[test]
    fn trailers_name_tenants_and_other_lines_do_not() {
        let names = |message: &str| agreements(message).into_iter().map(|one| one.tenant).collect::<Vec<_>>();
        assert_eq!(
            names("Subject\n\nBody.\n\nTenantd-Approve: ant@1, bee@2; fleet=x\nTenantd-approve: cat\n"),
            ["ant", "bee", "cat"]
        );
        assert_eq!(names("Subject\n\nTenantd-Approve: *\n"), ["*"]);
        for message in
            ["", "Tenantd-Approve: ant", "Subject\n\nTenantd-Approve: ant\n\nMore text.\n", "S\n\nTenantd-Approve:\n"]
        {
            assert!(names(message).is_empty(), "{message}");
        }
    }
}
