//! Following the chain from the first record to the last.

use std::path::Path;

use super::{
    Item, JournalError,
    chain::Chain,
    files::{LinePosition, Next, TRIES, Walk, name},
    line::{self, Anchor, LineError},
    read::{item, unreadable},
    verified::{Broken, Problem, Tail, Verified},
};

/// Checks each record against its own hash and the one before, and that none is missing but the oldest, which were dropped
/// with their files.
///
/// A record that was taken off the end leaves no trace in the chain: `expected`, an anchor that was kept elsewhere, shows
/// it. So does it where more of the beginning is gone than was to be dropped since. It is safe while another process
/// writes.
///
/// # Errors
/// The first place where the chain breaks, with the others in it; or a file cannot be read.
pub fn verify(folder: &Path, expected: Option<&Anchor>) -> Result<Verified, Broken> {
    let result = follow(folder, expected, || (), |(), _, _| {});
    result.map_err(|e| Broken::whole(Problem::Unreadable(Box::new(e))))?.1
}

/// Reads all records in their order, once, and follows the chain on the way, as [`verify`] does without an anchor. Where
/// it breaks, reading goes on: what breaks is returned beside what was gathered of all records that can be read.
///
/// What is gathered is begun anew where files went away meanwhile. It is safe while another process writes.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn check<V>(
    folder: &Path,
    begin: impl Fn() -> V,
    mut visit: impl FnMut(&mut V, &Item<'_>),
) -> Result<(V, Result<Verified, Broken>), JournalError> {
    follow(folder, None, begin, |gathered, place, line| match line {
        Ok(line) => visit(gathered, &item(place, line)),
        Err(why) => visit(gathered, &unreadable(place, why)),
    })
}

/// `visit` is called with each line, or with what is wrong with it.
fn follow<V>(
    folder: &Path,
    expected: Option<&Anchor>,
    begin: impl Fn() -> V,
    mut visit: impl FnMut(&mut V, &LinePosition, Result<&[u8], &str>),
) -> Result<(V, Result<Verified, Broken>), JournalError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut gathered = begin();
        let mut chain = Chain::new(expected);
        let tail = follow_once(folder, &mut chain, |place, line| visit(&mut gathered, place, line))?;
        let again = tail.is_err() || chain.was_overtaken(folder);
        if again && tries < TRIES {
            continue;
        }
        return Ok((gathered, tail.and_then(|tail| chain.end(folder, tail))));
    }
}

/// Reads all files once. An error says that one became shorter meanwhile.
fn follow_once(
    folder: &Path,
    chain: &mut Chain<'_>,
    mut visit: impl FnMut(&LinePosition, Result<&[u8], &str>),
) -> Result<Result<Option<Tail>, Broken>, JournalError> {
    let mut walk = Walk::new(folder, 0);
    let mut buffer = Vec::new();
    loop {
        match walk.next(&mut buffer)? {
            Next::Line(place) => match line::parse(&buffer) {
                Ok(line) => {
                    chain.add(&place, &line, &buffer);
                    visit(&place, Ok(&buffer));
                }
                Err(e) => {
                    chain.no_record(&place, problem(&e));
                    visit(&place, Err(&e.to_string()));
                }
            },
            Next::NoLine(place, bytes) => {
                let why = format!("{bytes} bytes are not a whole record");
                visit(&place, Err(&why));
                chain.no_record(&place, Problem::Altered(why));
            }
            Next::Shrunk(place) => return Ok(Err(Broken::at(&place, chain.next(&place), Problem::Shrunk))),
            Next::End(_, 0) => return Ok(Ok(None)),
            Next::End(place, bytes) => {
                return Ok(Ok(Some(Tail { file: name(place.first), offset: place.offset, bytes })));
            }
        }
    }
}

fn problem(error: &LineError) -> Problem {
    match error {
        LineError::Newer(_) => Problem::Newer(error.to_string()),
        other => Problem::Altered(other.to_string()),
    }
}
