//! Where the declarations come from: a commit's tree, or a folder that is not committed yet.
//!
//! The daemon reads neither a work tree nor someone else's repository: a [`Mirror`] of its own keeps
//! what was fetched, whatever becomes of the source.

mod ahead;
mod approve;
mod ask;
mod blame;
mod bound;
mod budget;
mod carrier;
mod commit_cache;
mod directory;
mod door;
mod entries;
mod environment;
mod error;
mod fetch;
mod follow;
mod format;
mod git;
mod gpg;
mod graph;
mod history;
mod kept;
mod keys;
mod mirror;
mod moment;
mod names;
mod objects;
mod place;
mod process;
mod reader;
mod repository;
mod settings;
mod signature;
mod text;
mod verify;
mod watch;

pub use crate::model::tree::MAX_FILE;
pub use approve::{Approval, ApprovalHistory};
pub use blame::{Blame, Line};
pub use bound::{Bound, MAX_FILES};
pub use commit_cache::{CommitCache, Findings, Trace};
pub use directory::read_directory;
pub use error::SourceError;
pub use fetch::FetchError;
pub use follow::{At, Read};
pub use git::{read_commit, read_commit_below};
pub use gpg::GpgError;
pub use history::{History, Misdated};
pub use kept::commits_in;
pub use keys::Keys;
pub use mirror::{Mirror, Relation};
pub use place::Place;
pub use reader::Changed;
pub use repository::Opened;
pub use settings::{local_path, shown_url};
pub use signature::Fault;
pub use verify::VerifyError;
pub use watch::{Watch, WatchError};
