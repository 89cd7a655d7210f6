//! Objects as git keeps them, each held against its id here.
//!
//! libgit2 hashes what it reads with a SHA-1 that looks for collisions, which for a folder of a thousand names takes longer
//! than all that is done with them. git looks for collisions where objects come in; what a history is read from need only
//! be what its ids say, and a processor's own instructions check that in a fifth of the time.

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
        let mut hash = begun(object.kind(), object.len());
        hash.update(object.data());
        same(id, &hash.finalize().into())?;
    }
    Ok(object)
}

/// [`read`] of an object that is much like another one, whose beginnings were hashed: what both begin with is not hashed
/// again.
///
/// # Errors
/// As of [`read`].
pub(super) fn read_after<'o>(
    objects: &'o Odb<'_>,
    id: Oid,
    like: &[u8],
    hashed: &Hashed,
) -> Result<(OdbObject<'o>, Hashed), Error> {
    let object = objects.read(id)?;
    if HASHED_HERE.load(Ordering::Relaxed) == 0 {
        return Ok((object, Hashed::default()));
    }
    let data = object.data();
    // What is hashed begins with how long it is.
    let is_like = object.kind() == ObjectType::Tree && data.len() == like.len();
    let known = if is_like { alike(like, data) / STRETCH } else { 0 };
    let mut states = hashed.0.get(..known.min(hashed.0.len())).unwrap_or_default().to_vec();
    let mut state = states.last().cloned().unwrap_or_else(|| begun(object.kind(), data.len()));
    for stretch in data.get(states.len() * STRETCH..).unwrap_or_default().chunks(STRETCH) {
        state.update(stretch);
        if stretch.len() == STRETCH {
            states.push(state.clone());
        }
    }
    same(id, &state.finalize().into())?;
    Ok((object, Hashed(states)))
}

/// The hash of a folder as it stood after each stretch of it.
#[derive(Default)]
pub(super) struct Hashed(Vec<Sha1>);

/// How many bytes a stretch has.
const STRETCH: usize = 2 << 10;

/// How many bytes are compared at once.
pub(super) const BLOCK: usize = 256;

/// How many bytes two texts begin with alike.
pub(super) fn alike(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.chunks(BLOCK).zip(other.chunks(BLOCK)).take_while(|(one, other)| one == other).count();
    let done = (blocks * BLOCK).min(one.len()).min(other.len());
    let rest = one.get(done..).into_iter().flatten().zip(other.get(done..).into_iter().flatten());
    done + rest.take_while(|(one, other)| one == other).count()
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

/// The hash of what stands before an object.
fn begun(kind: ObjectType, length: usize) -> Sha1 {
    let mut hash = Sha1::new();
    hash.update(kind.str().as_bytes());
    hash.update(format!(" {length}\0").as_bytes());
    hash
}

fn same(id: Oid, found: &[u8; 20]) -> Result<(), Error> {
    if found.as_slice() == id.as_bytes() {
        return Ok(());
    }
    let what = format!("object hash mismatch - expected {id} but got {}", Oid::from_bytes(found)?);
    Err(Error::new(ErrorCode::HashsumMismatch, ErrorClass::Odb, what))
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
