//! Objects as git keeps them, each held against its id here.
//!
//! libgit2 hashes what it reads with a SHA-1 that looks for collisions, which for a folder of a thousand names takes longer
//! than all that is done with them. git looks for collisions where objects come in; what a history is read from need only
//! be what its ids say, and a processor's own instructions tell that in a fifth of the time.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use git2::{Error, ErrorClass, ErrorCode, ObjectType, Odb, OdbObject, Oid};
use sha1::{Digest, Sha1};

/// How many hold a [`HashedHere`].
static HASHED_HERE: AtomicUsize = AtomicUsize::new(0);

/// Whoever begins or ends with one.
static TURN: Mutex<()> = Mutex::new(());

/// Reads an object, and makes sure that it is the one of this id.
///
/// # Errors
/// There is none, it cannot be read, or it is another one.
pub(super) fn read<'o>(objects: &'o Odb<'_>, id: Oid) -> Result<OdbObject<'o>, Error> {
    let object = objects.read(id)?;
    if HASHED_HERE.load(Ordering::Relaxed) > 0 {
        let found = id_of(object.kind(), object.data());
        if found.as_slice() != id.as_bytes() {
            let what = format!("object hash mismatch - expected {id} but got {}", Oid::from_bytes(&found)?);
            return Err(Error::new(ErrorCode::HashsumMismatch, ErrorClass::Odb, what));
        }
    }
    Ok(object)
}

/// Makes sure that an object which libgit2 takes apart is the one of this id.
///
/// # Errors
/// As of [`read`].
pub(super) fn check(objects: &Odb<'_>, id: Oid) -> Result<(), Error> {
    match HASHED_HERE.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ => read(objects, id).map(drop),
    }
}

fn id_of(kind: ObjectType, data: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(kind.str().as_bytes());
    hash.update(format!(" {}\0", data.len()).as_bytes());
    hash.update(data);
    hash.finalize().into()
}

/// As long as one of these is there, libgit2 does not hash what it reads, in the whole process: what is read by [`read`] is
/// hashed there.
pub(super) struct HashedHere(());

impl HashedHere {
    pub(super) fn begin() -> Self {
        let _one_at_a_time = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // In between, what is read is hashed twice rather than not at all.
        HASHED_HERE.fetch_add(1, Ordering::SeqCst);
        git2::opts::strict_hash_verification(false);
        Self(())
    }
}

impl Drop for HashedHere {
    fn drop(&mut self) {
        let _one_at_a_time = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if HASHED_HERE.load(Ordering::SeqCst) == 1 {
            git2::opts::strict_hash_verification(true);
        }
        HASHED_HERE.fetch_sub(1, Ordering::SeqCst);
    }
}
