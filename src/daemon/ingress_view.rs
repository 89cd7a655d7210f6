//! What the daemon has for the ingress of its host.

use std::time::Instant;

use super::board::Board;
use crate::{
    host::key::{self, KeyError},
    model::{Host, token::SigningKey},
};

pub(super) struct IngressView {
    /// The key that signs tokens.
    pub(super) key: SigningKey,
    /// Whether a token was revoked since the daemon began: that is reported, whatever else is known.
    pub(super) has_revoked: bool,
    pub(super) board: Board,
}

impl IngressView {
    /// What a daemon begins with; `None` where its host has no ingress.
    ///
    /// # Errors
    /// The key that signs tokens can neither be read nor made.
    pub(super) fn begin(host: &Host, now: Instant) -> Result<Option<Self>, KeyError> {
        if host.ingress.is_none() {
            return Ok(None);
        }
        let key = key::for_tokens(&host.data_root)?;
        let epoch = format!("{:016x}", fastrand::u64(..));
        let board = Board::new(epoch, key.public(), now);
        Ok(Some(Self { key, has_revoked: false, board }))
    }

    /// A token counts no more.
    pub(super) fn token_revoked(&mut self) {
        self.has_revoked = true;
        self.board.all_changed();
    }
}
