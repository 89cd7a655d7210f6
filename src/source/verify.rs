//! Whose commits count.

use std::{collections::BTreeSet, fs, io};

use git2::{Oid, Repository, Sort};

use super::{
    Mirror, Relation, SourceError,
    gpg::GpgError,
    keys::Keys,
    signature::{Fault, Signed},
    text::{decode, encoding_of, plain},
};
use crate::model::{
    host::{Verify, VerifyMode},
    shown::{short_id, shortened},
};

/// Why a head is not applied.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A signature that is needed is missing, or does not count.
    #[error("the commit {commit} ({subject}) {fault}{hint}")]
    Commit {
        /// The commit, in ten digits.
        commit: String,
        /// The first line of its message, escaped and cut short.
        subject: String,
        /// What is wrong.
        fault: Fault,
        /// Why a commit counts that one may not have thought of; empty where there is nothing to say.
        hint: &'static str,
    },
    /// Every signature counts, and yet the head does not continue what was accepted: an old head that
    /// is shown again, or a rewritten branch. An operator may approve it.
    #[error("the head {head} does not descend from {accepted}, which was accepted before")]
    NonFastForward {
        /// The head, in ten digits.
        head: String,
        /// The commit that was accepted last, in ten digits.
        accepted: String,
        /// Who signed the head.
        signer: Option<String>,
    },
    /// The source is shallow, and what it leaves out cannot be verified.
    #[error("the source is a shallow repository without the parents of {0}, which cannot be verified then")]
    Shallow(String),
    /// GnuPG cannot be asked.
    #[error("cannot verify the commit {commit}")]
    Gpg {
        /// The commit, in ten digits.
        commit: String,
        /// Why.
        source: GpgError,
    },
    /// A commit cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What one who switches verification on needs to know.
const WHOLE_HISTORY: &str = "; nothing was accepted before, so that the whole history counts; verify.since can name a commit up to which nothing \
     need be signed";

/// What one who mistyped needs to know.
const SINCE_UNKNOWN: &str = "; verify.since names a commit that the source does not have";

/// The longest subject that is shown, in characters.
const LONGEST_SUBJECT: usize = 60;

impl Mirror {
    /// Verifies a head, and returns who signed it.
    ///
    /// With mode `head` the head's signature counts alone. With `all` that of each commit counts which
    /// is reachable from the head and not from `accepted` nor from `verify.since`. In both the head has
    /// to descend from `accepted`. With `none` everything passes, and nobody is named.
    ///
    /// It blocks, 10,000 SSH signatures for about a second.
    ///
    /// # Errors
    /// As the kinds of [`VerifyError`] say. [`VerifyError::NonFastForward`] comes only where every signature
    /// counts.
    pub fn verify(&self, verify: &Verify, accepted: Option<&str>, head: &str) -> Result<Option<String>, VerifyError> {
        if verify.mode == VerifyMode::None {
            return Ok(None);
        }
        let repository = self.repository()?;
        let known = |id: &str| match self.commit(&repository, id) {
            Ok(commit) => Ok(Some(commit.id())),
            Err(SourceError::Revision { .. }) => Ok(None),
            Err(e) => Err(e),
        };
        let head_id = self.commit(&repository, head)?.id();
        let before = accepted.map(known).transpose()?.flatten();
        // A commit that is not known vouches for nothing.
        let since = verify.since.as_deref().map(known).transpose()?.flatten();
        let hint = match (&verify.since, since, before) {
            (Some(_), None, _) => SINCE_UNKNOWN,
            (None, _, None) if verify.mode == VerifyMode::All => WHOLE_HISTORY,
            _ => "",
        };
        let keys = Keys::beside(verify.clone(), self.folder().join("gnupg"));
        let judge = Judge { mirror: self, repository: &repository, keys, hint };
        // What was carried in unsigned under an accepted head may not become the head by itself.
        let vouches = before.filter(|_| verify.mode == VerifyMode::All);
        let trusted: Vec<Oid> = [vouches, since].into_iter().flatten().collect();
        let mut commits = judge.unverified(head_id, &trusted)?;
        let shallow = self.boundary()?;
        let cut = commits.iter().find(|id| shallow.contains(*id)).map(|id| VerifyError::Shallow(short(*id)));
        if verify.mode == VerifyMode::Head {
            commits.retain(|id| *id == head_id && before != Some(head_id));
            let signer = judge.signer_of_all(head_id, &commits)?;
            return match (self.continues(accepted, head, signer), cut) {
                // Behind a cut it cannot be known whether a branch was rewritten.
                (Err(VerifyError::NonFastForward { .. }), Some(cut)) => Err(cut),
                (result, _) => result,
            };
        }
        if let Some(cut) = cut {
            return Err(cut);
        }
        let signer = judge.signer_of_all(head_id, &commits)?;
        self.continues(accepted, head, signer)
    }

    /// Whether a head that is signed as it should be continues what was accepted.
    fn continues(
        &self,
        accepted: Option<&str>,
        head: &str,
        signer: Option<String>,
    ) -> Result<Option<String>, VerifyError> {
        match accepted {
            Some(accepted) if self.relation(accepted, head)? == Relation::NonFastForward => {
                Err(VerifyError::NonFastForward {
                    head: plain(short_id(head)),
                    accepted: plain(short_id(accepted)),
                    signer,
                })
            }
            _ => Ok(signer),
        }
    }

    /// The commits whose parents the source does not have.
    pub(super) fn boundary(&self) -> Result<BTreeSet<Oid>, SourceError> {
        let path = self.folder().join("shallow");
        match fs::read_to_string(&path) {
            Ok(text) => {
                text.lines().map(|line| Oid::from_str(line).map_err(|e| self.damaged(e))).collect::<Result<_, _>>()
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(source) => Err(SourceError::Mirror { path: path.display().to_string(), source }),
        }
    }
}

struct Judge<'a> {
    mirror: &'a Mirror,
    repository: &'a Repository,
    keys: Keys,
    hint: &'static str,
}

impl Judge<'_> {
    /// What is reachable from the head and from nothing that is trusted, parents first.
    fn unverified(&self, head: Oid, trusted: &[Oid]) -> Result<Vec<Oid>, SourceError> {
        let walk = || -> Result<Vec<Oid>, git2::Error> {
            let mut walk = self.repository.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
            walk.push(head)?;
            trusted.iter().try_for_each(|id| walk.hide(*id))?;
            walk.collect()
        };
        walk().map_err(|e| self.mirror.damaged(e))
    }

    /// Verifies the head and then the others; returns who signed the head. A head that needs no
    /// signature is checked as well, and nobody is named where it has none that counts.
    fn signer_of_all(&self, head: Oid, commits: &[Oid]) -> Result<Option<String>, VerifyError> {
        if !commits.contains(&head) {
            return Ok(self.signer(head).ok());
        }
        let signer = self.signer(head)?;
        for commit in commits.iter().filter(|id| **id != head) {
            self.signer(*commit)?;
        }
        Ok(Some(signer))
    }

    /// Who signed one commit.
    fn signer(&self, commit: Oid) -> Result<String, VerifyError> {
        let damaged = |e| VerifyError::Source(self.mirror.damaged(e));
        let objects = self.repository.odb().map_err(damaged)?;
        let object = objects.read(commit).map_err(damaged)?;
        let fault = |fault| VerifyError::Commit {
            commit: short(commit),
            subject: subject(object.data()),
            fault,
            hint: self.hint,
        };
        let signed = Signed::of(object.data()).map_err(fault)?;
        let judged = self.keys.signer(&signed).map_err(|source| VerifyError::Gpg { commit: short(commit), source })?;
        judged.map_err(fault)
    }
}

/// The first digits of a commit, enough for a person.
fn short(id: Oid) -> String {
    short_id(&id.to_string()).to_owned()
}

/// The first line of a commit's message in quotation marks, escaped and cut short.
fn subject(commit: &[u8]) -> String {
    let begin = commit.windows(2).position(|two| two == b"\n\n").map_or(commit.len(), |at| at + 2);
    let line = commit.get(begin..).unwrap_or_default().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = decode(line, encoding_of(commit));
    format!("\"{}\"", plain(&shortened(&line, LONGEST_SUBJECT)))
}
