//! Files that are given on as they are.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    SourceError,
    bound::{Bound, MAX_FILES},
};
use crate::model::tree::{Carried, MAX_FILE};

/// The most bytes that all files which are given on may have.
const MAX_CARRIED: u64 = 64 << 20;

/// The files that are given on, as far as there is room.
pub(super) struct Carrier {
    carried: BTreeMap<String, Carried>,
    left: u64,
}

impl Carrier {
    pub(super) fn new() -> Self {
        Self { carried: BTreeMap::new(), left: MAX_CARRIED }
    }

    /// Takes an entry of which no bytes are read.
    pub(super) fn note(&mut self, path: String, carried: Carried) -> Result<(), SourceError> {
        self.carried.insert(path, carried);
        if self.carried.len() > MAX_FILES { Err(SourceError::TooLarge(Bound::Files)) } else { Ok(()) }
    }

    /// Takes a file of so many bytes.
    pub(super) fn file<E>(
        &mut self,
        path: String,
        size: u64,
        read: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<(), SourceError> {
        let carried = if size > MAX_FILE {
            Carried::TooLarge(size)
        } else if size > self.left {
            Carried::Beyond
        } else {
            // One that became longer while it was read is cut, and so is none.
            read().map_or(Carried::Unreadable, |bytes| match bytes.len() as u64 {
                length if length > MAX_FILE => Carried::TooLarge(length),
                _ => Carried::File(bytes),
            })
        };
        if matches!(carried, Carried::File(_)) {
            self.left -= size;
        }
        self.note(path, carried)
    }

    pub(super) fn end(self) -> Arc<BTreeMap<String, Carried>> {
        Arc::new(self.carried)
    }
}
