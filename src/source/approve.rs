//! Approvals: signed commits that name the tenants whose loosening they agree to.

use std::collections::BTreeSet;

use git2::{Oid, Sort};

use super::{Mirror, SourceError, signature::Signed};
use crate::model::host::Signer;

/// The trailer of an approval; its value is tenants' names with commas between, or `*` for all.
pub const TRAILER: &str = "Tenantd-Approve";

/// How many commits are looked through, newest first.
const MOST: usize = 1000;

/// A commit that approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Who signed it.
    pub by: String,
    /// The tenants that it names; `None` for all.
    pub tenants: Option<BTreeSet<String>>,
}

impl Mirror {
    /// The approvals of some signers among the commits that came since the accepted one. Where nothing was accepted
    /// before, that of the head alone counts; where the accepted commit is not known any more, none does: an old
    /// approval must not come back.
    ///
    /// # Errors
    /// The head is not known, or the mirror is damaged.
    pub fn approvals(
        &self,
        approvers: &[Signer],
        accepted: Option<&str>,
        head: &str,
    ) -> Result<Vec<Approval>, SourceError> {
        let repository = self.repository()?;
        let head = self.commit(&repository, head)?.id();
        let accepted = match accepted.map(|id| self.commit(&repository, id)) {
            None => None,
            Some(Ok(commit)) => Some(commit.id()),
            Some(Err(SourceError::Revision { .. })) => return Ok(Vec::new()),
            Some(Err(e)) => return Err(e),
        };
        let since = || -> Result<Vec<Oid>, git2::Error> {
            let Some(accepted) = accepted else { return Ok(vec![head]) };
            let mut walk = repository.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL)?;
            walk.push(head)?;
            walk.hide(accepted)?;
            walk.take(MOST).collect()
        };
        let mut approvals = Vec::new();
        for id in since().map_err(|e| self.damaged(e))? {
            let commit = repository.find_commit(id).map_err(|e| self.damaged(e))?;
            let names = named(&String::from_utf8_lossy(commit.message_bytes()));
            if names.is_empty() {
                continue;
            }
            let object = repository.odb().and_then(|objects| objects.read(id).map(|it| it.data().to_vec()));
            let signed = Signed::of(&object.map_err(|e| self.damaged(e))?);
            // One whose signature does not count approves nothing.
            let Ok(by) = signed.and_then(|signed| signed.ssh_signer(approvers).map(|signer| signer.name.clone()))
            else {
                continue;
            };
            let tenants = (!names.contains("*")).then_some(names);
            approvals.push(Approval { commit: id.to_string(), by, tenants });
        }
        Ok(approvals)
    }
}

/// The names in the trailers of a message.
fn named(message: &str) -> BTreeSet<String> {
    let Ok(trailers) = git2::message_trailers_strs(message) else { return BTreeSet::new() };
    let values = trailers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(TRAILER));
    let names = values.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn trailers_name_tenants_and_other_lines_do_not() {
        let names = |message: &str| named(message).into_iter().collect::<Vec<_>>();
        assert_eq!(
            names("Subject\n\nBody.\n\nTenantd-Approve: ant, bee\nTenantd-approve: cat\n"),
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
