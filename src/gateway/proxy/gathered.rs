//! Bytes that are read before they can go on.

use crate::accounting::{account::Account, limits::Lease};

/// Bytes that wait in memory, which is reserved as they come.
#[derive(Debug)]
pub struct Gathered {
    bytes: Vec<u8>,
    lease: Option<Lease>,
    free: usize,
}

/// How many bytes wait without anything being reserved for them: there are so many for each connection.
const FREE: usize = 4 << 10;

impl Default for Gathered {
    fn default() -> Self {
        Self::after(FREE)
    }
}

impl Gathered {
    /// Nothing yet. So many bytes were reserved already.
    pub fn after(free: usize) -> Self {
        Self { bytes: Vec::new(), lease: None, free }
    }

    /// These, for which memory was reserved as they came. So many bytes more were.
    pub fn and(mut self, free: usize) -> Self {
        self.free = free;
        self
    }

    /// Adds bytes. False where the tenant can have no more memory: then nothing was added.
    pub fn add(&mut self, account: &Account, bytes: &[u8]) -> bool {
        let has_room = self.make_room(account, bytes.len());
        if has_room {
            self.bytes.extend_from_slice(bytes);
        }
        has_room
    }

    /// Sees to it that so many bytes can be added. False where the tenant can have no more memory.
    pub fn make_room(&mut self, account: &Account, more: usize) -> bool {
        let needed = self.bytes.len().saturating_add(more);
        if needed <= self.bytes.capacity() {
            return true;
        }
        // As much as is really taken: what grows has room for as many bytes again.
        let room = needed.max(self.bytes.capacity().saturating_mul(2));
        let is_reserved = room <= self.free || account.reserve(&mut self.lease, room as u64);
        if is_reserved {
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        is_reserved
    }

    /// The bytes. Whoever adds some makes room before.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes so many bytes from the beginning, and gives the memory back where none are left and it is more
    /// than was reserved anyway.
    pub fn consume(&mut self, length: usize) {
        self.bytes.drain(..length.min(self.bytes.len()));
        if self.bytes.is_empty() && self.bytes.capacity() > self.free {
            *self = Self::after(self.free);
        }
    }
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
