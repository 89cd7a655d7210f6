//! Who made a commit, when, and who signed it.

use git2::{Commit, Error, Oid, Repository};

use super::{
    Keys, objects,
    repository::time,
    signature::{Fault, Signed},
    text::decode,
};
use crate::model::tree::{Moment, Person, Signature};

/// The most commits of a merged branch whose authors are named.
const MERGED: usize = 20;

/// Who made a commit, and when, as if it were not signed; and whether it is.
pub(super) fn unsigned(repository: &Repository, id: Oid) -> Result<(Moment, bool), Error> {
    let commit = &repository.find_commit(id)?;
    let subject = commit.message_bytes().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let moment = Moment {
        commit: id.to_string(),
        time: time(commit.time()),
        author: author(commit),
        committer: person(&commit.committer(), encoding(commit)),
        subject: decode(subject, encoding(commit)),
        signature: Signature::None,
        merged: merged(repository, commit)?,
    };
    let objects = repository.odb()?;
    let signed = Signed::of(objects::read(&objects, id)?.data());
    Ok((moment, !matches!(signed, Err(Fault::Unsigned))))
}

/// Who wrote a commit.
pub(super) fn author(of: &Commit<'_>) -> Person {
    person(&of.author(), encoding(of))
}

/// Somebody as a commit names them.
fn person(one: &git2::Signature<'_>, encoding: Option<&str>) -> Person {
    Person { name: decode(one.name_bytes(), encoding), email: decode(one.email_bytes(), encoding) }
}

/// The encoding that a commit names; one that is not written in ASCII is none.
fn encoding<'c>(of: &'c Commit<'_>) -> Option<&'c str> {
    of.message_encoding().ok().flatten()
}

/// Who signed a commit.
pub(super) fn signature(repository: &Repository, id: Oid, keys: &Keys) -> Result<Signature, Error> {
    let objects = repository.odb()?;
    let object = objects::read(&objects, id)?;
    let signed = match Signed::of(object.data()) {
        Ok(signed) => signed,
        Err(Fault::Unsigned) => return Ok(Signature::None),
        Err(fault) => return Ok(Signature::Bad(fault.to_string())),
    };
    let kind = if signed.is_pgp() { "GnuPG" } else { "SSH" };
    if !keys.may_know(&signed) {
        return Ok(Signature::Unknown(kind.to_owned()));
    }
    Ok(match keys.signer(&signed) {
        Ok(Ok(signer)) => Signature::By(signer),
        Ok(Err(fault)) => Signature::Bad(fault.to_string()),
        Err(error) => Signature::Unknown(format!("{kind}: {error}")),
    })
}

/// The authors of what a merge brought, newest first.
fn merged(repository: &Repository, commit: &Commit<'_>) -> Result<Vec<Person>, Error> {
    let mut people: Vec<Person> = Vec::new();
    if commit.parent_count() < 2 {
        return Ok(people);
    }
    let mut walk = repository.revwalk()?;
    commit.parent_ids().skip(1).try_for_each(|parent| walk.push(parent))?;
    commit.parent_ids().take(1).try_for_each(|parent| walk.hide(parent))?;
    for id in walk.take(MERGED) {
        let commit = repository.find_commit(id?)?;
        let person = author(&commit);
        if !people.contains(&person) {
            people.push(person);
        }
    }
    Ok(people)
}
