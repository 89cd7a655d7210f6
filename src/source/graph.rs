//! Which commits follow from which, and when each was made, with what was read of that before.

use git2::{Error, Oid};

use super::{CommitCache, Findings, Opened, Trace};

/// The bytes of an id.
const ID: usize = 20;

/// What is read of a commit.
pub(super) struct Node {
    /// Those that it follows from; of a shallow clone, without those that are missing.
    pub(super) parents: Vec<Oid>,
    /// Its top folder.
    pub(super) tree: Oid,
    /// When it was made, in seconds.
    pub(super) seconds: i64,
}

impl Node {
    /// What is kept of it, behind its id, since what it is kept by is only a part of that.
    fn written(&self, id: Oid) -> Vec<u8> {
        let mut bytes = [id.as_bytes(), self.tree.as_bytes(), &self.seconds.to_le_bytes()].concat();
        self.parents.iter().for_each(|parent| bytes.extend_from_slice(parent.as_bytes()));
        bytes
    }

    fn read(id: Oid, kept: &[u8]) -> Option<Self> {
        let (tree, rest) = kept.strip_prefix(id.as_bytes())?.split_at_checked(ID)?;
        let (seconds, parents) = rest.split_first_chunk()?;
        let parents = parents.chunks(ID).map(Oid::from_bytes).collect::<Result<_, _>>().ok()?;
        Some(Self { parents, tree: Oid::from_bytes(tree).ok()?, seconds: i64::from_le_bytes(*seconds) })
    }
}

/// The commits of a repository.
pub(super) struct Graph<'o> {
    opened: &'o Opened,
    kept: Option<CommitCache>,
    new: Findings,
}

impl<'o> Graph<'o> {
    pub(super) fn open(opened: &'o Opened) -> Self {
        let kept = opened.folder_of_kept().and_then(|folder| CommitCache::open(&folder, "", "graph"));
        Self { opened, kept, new: Findings::default() }
    }

    /// Reads a commit.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn node(&mut self, id: Oid) -> Result<Node, Error> {
        let Some(trace) = id.as_bytes().first_chunk().copied().map(Trace).filter(|_| self.kept.is_some()) else {
            return self.read(id);
        };
        if let Some(node) = self.kept.as_ref().and_then(|kept| Node::read(id, kept.get(trace)?)) {
            return Ok(node);
        }
        let node = self.read(id)?;
        self.new.add(trace, &node.written(id));
        Ok(node)
    }

    fn read(&self, id: Oid) -> Result<Node, Error> {
        let commit = self.opened.objects().find_commit(id)?;
        let (tree, seconds) = (commit.tree_id(), commit.time().seconds());
        Ok(Node { parents: commit.parent_ids().collect(), tree, seconds })
    }

    /// Keeps what was read.
    pub(super) fn keep(self) {
        if let Some(kept) = self.kept {
            kept.keep(&self.new);
        }
    }
}
