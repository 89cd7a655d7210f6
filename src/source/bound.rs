//! The bounds of one moment of a config repo.

/// The most files that are read: ten times the fleet that was measured.
pub const MAX_FILES: usize = 100_000;

/// The most names that are walked in all folders that are read, whatever they are: twice the most files.
pub(super) const MAX_NAMES: usize = 200_000;

/// The most bytes that all paths of those names have. A hundred thousand tenants' files have five million.
pub(super) const MAX_PATHS: u64 = 32 << 20;

/// The most bytes of `fleet.yaml`, `tiers.yaml` and tenants' files together. Ten thousand files of the fleet that was
/// measured have five million.
pub(super) const MAX_BYTES: u64 = 32 << 20;

/// The most bytes of one folder as git keeps it: a name is some forty.
pub(super) const MAX_FOLDER: u64 = 16 << 20;

/// What a config repo has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Files that are read.
    Files,
    /// Names of any kind.
    Names,
    /// The length of all paths.
    Paths,
    /// The bytes of all files that are compiled.
    Bytes,
    /// The names in one folder.
    Folder,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Files => write!(
                f,
                "there are more than {MAX_FILES} files under tenants/, or under files/, schemas/ and rules/ together"
            ),
            Self::Names => write!(f, "there are more than {MAX_NAMES} names in the folders that are read"),
            Self::Paths => {
                write!(f, "the paths in the folders that are read have more than {} MiB together", MAX_PATHS >> 20)
            }
            Self::Bytes => write!(
                f,
                "fleet.yaml, tiers.yaml and the files under tenants/ have more than {} MiB together",
                MAX_BYTES >> 20
            ),
            Self::Folder => write!(f, "a folder that is read has more than {} MiB of names", MAX_FOLDER >> 20),
        }
    }
}
