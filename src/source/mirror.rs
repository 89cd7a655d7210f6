//! A repository of our own that holds what was fetched.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use git2::{Commit, ErrorCode, ObjectType, Oid, Repository, RepositoryInitOptions, RepositoryOpenFlags};

use super::{
    FetchError, SourceError, budget,
    door::{self, Door, Unfit},
    fetch::{self, FETCHED, FetchRequest, Git, HEAD, LEAST_ROOM, MAX_MIRROR, RESERVE, SETTINGS},
    git::{below, folder, read_root, read_root_of, unparsed},
    settings,
};
use crate::{
    fault::chain,
    host::secret::{self, SecretError},
    model::{Revision, host::Source, tree::Tree},
};

/// How the head of a branch relates to one that was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same commit.
    Same,
    /// The new one descends from the old one.
    Forward,
    /// It does not: the branch was rewritten, goes back, or the old commit is not known any more.
    NonFastForward,
}

/// A bare repository into which one branch of the source is fetched.
///
/// What was fetched once stays readable, whatever becomes of the source: rewritten, damaged or gone.
/// It is closed to everyone but its owner. Everything but [`Mirror::fetch`] blocks, and asks nobody.
/// Clones share one folder.
#[derive(Clone, Debug)]
pub struct Mirror {
    folder: PathBuf,
    source: Source,
    /// What git is configured with for the source.
    settings: String,
    program: PathBuf,
    /// Held while something is fetched, or thrown away.
    fetching: Arc<tokio::sync::Mutex<Since>>,
    bounds: Bounds,
}

/// How many bytes the packs may have, and how many of those no head may take for what it leads to.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    most: u64,
    reserve: u64,
}

/// What came in since git last looked what is needed.
#[derive(Debug)]
struct Since {
    heads: u32,
    /// The size of all packs then.
    size: Option<u64>,
    /// When that was.
    time: Instant,
    /// When something was last dropped because the reserve was in use.
    short: Option<Instant>,
}

impl Default for Since {
    fn default() -> Self {
        Self { heads: 0, size: None, time: Instant::now(), short: None }
    }
}

/// When what is not needed is dropped: after so many new heads, so many bytes, or where there is a new head after so
/// long.
const HEADS: u32 = 64;
const GROWTH: u64 = 64 << 20;
const PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// How often that is done where the reserve is in use, whatever came in.
const SHORT_PERIOD: Duration = Duration::from_secs(600);

impl Mirror {
    /// Opens the mirror of a source, and makes it where there is none.
    ///
    /// A mirror that cannot be read is kept under its name and `.damaged-` with the time, in the
    /// place of one that was kept before, and is made anew. The caller holds the data root's
    /// lock: no other process may fetch into the mirror.
    ///
    /// # Errors
    /// A setting of the source cannot be used, or the folder cannot be made.
    pub fn open(folder: &Path, source: &Source) -> Result<Self, SourceError> {
        let mirror = Self {
            folder: folder.to_owned(),
            source: source.clone(),
            settings: settings::compose(source)?,
            program: PathBuf::from("git"),
            fetching: Arc::default(),
            bounds: Bounds { most: MAX_MIRROR, reserve: RESERVE },
        };
        if !folder.exists() {
            mirror.make()?;
        } else if mirror.is_sound() {
            fs::write(folder.join(SETTINGS), &mirror.settings).map_err(|e| mirror.unkept(e))?;
        } else {
            mirror.renew()?;
        }
        Ok(mirror)
    }

    /// Fetches the branch and returns its head, 40 hexadecimal digits.
    ///
    /// It takes no longer than `source.timeout`; when it is dropped, or takes longer, git ends with all that it
    /// started. A mirror that turns out to be damaged is made anew. What comes in counts only once each object of it
    /// was found to be within bounds and readable.
    ///
    /// # Errors
    /// As the kinds of [`FetchError`] say. The head that was fetched last stays readable.
    pub async fn fetch(&self) -> Result<String, FetchError> {
        let mut since = self.fetching.lock().await;
        self.check_password()?;
        let before = self.head().ok();
        let head = match self.fetch_once().await {
            Err(e @ (FetchError::Failed { .. } | FetchError::Corrupt { .. } | FetchError::Mirror(_))) => {
                let mirror = self.clone();
                // A check that could not end proves nothing against the mirror.
                if tokio::task::spawn_blocking(move || mirror.is_sound()).await.unwrap_or(true) {
                    return Err(e);
                }
                self.renew()?;
                self.fetch_once().await?
            }
            result => result?,
        };
        if before.as_ref() != Some(&head) {
            since.heads += 1;
        }
        Ok(head)
    }

    /// Drops what neither the head nor these commits need, and what led to them, once it has lain there for an hour,
    /// where enough has come in since the last time. Returns whether that was so.
    ///
    /// Where the reserve is in use, that is enough, and a head counts only if it is one of these commits: the branch may
    /// lead to what fills the mirror, and what replaces it needs room.
    ///
    /// It takes no longer than `source.timeout`. A crash leaves a mirror that holds more than it needs.
    pub async fn maintain(&self, needed: BTreeSet<String>) -> bool {
        let mut since = self.fetching.lock().await;
        let size = door::size(&self.folder);
        let grown = size.saturating_sub(*since.size.get_or_insert(size));
        let is_short = size > self.bounds.most - self.bounds.reserve
            && since.short.is_none_or(|last| last.elapsed() >= SHORT_PERIOD);
        let is_due =
            is_short || since.heads >= HEADS || grown >= GROWTH || since.heads > 0 && since.time.elapsed() >= PERIOD;
        // What was not looked at yet must not be packed with what was.
        if !is_due || door::is_open(&self.folder) {
            return false;
        }
        let mirror = self.clone();
        let keep = move || {
            if is_short {
                mirror.forget_head(&needed)?;
            }
            mirror.keep(&needed)
        };
        let kept = tokio::task::spawn_blocking(move || keep().map_err(|e| chain(&e))).await;
        let grace = if is_short { fetch::SHORT_GRACE } else { fetch::GRACE };
        let done = match kept.map_err(|e| e.to_string()).flatten() {
            Ok(()) => fetch::maintain(&self.git(), self.source.timeout.get(), grace).await,
            Err(e) => Err(e),
        };
        if let Err(error) = done {
            // The mirror is larger then, and no less right.
            tracing::warn!(error, "cannot drop what the mirror does not need");
        }
        let now = Instant::now();
        let short = if is_short { Some(now) } else { since.short };
        *since = Since { heads: 0, size: Some(door::size(&self.folder)), time: now, short };
        true
    }

    async fn fetch_once(&self) -> Result<String, FetchError> {
        let shown = settings::shown_url(&self.source.url);
        let request = FetchRequest {
            url: &self.source.url,
            shown: &shown,
            branch: &self.source.branch,
            limit: self.source.timeout.get(),
        };
        self.discard()?;
        let room = self.bounds.most.saturating_sub(door::size(&self.folder)).max(LEAST_ROOM);
        // What is there now is noted before anything comes.
        Door::open(&self.folder).map_err(|e| self.unkept(e))?;
        let brought = match fetch::fetch(&Git { room: Some(room), ..self.git() }, &request).await {
            Ok(()) => self.let_in(&request).await,
            Err(e) => Err(e),
        };
        if let Err(e) = brought {
            // What is half there takes room until then, and keeps what is not needed from being dropped.
            if let Err(error) = self.discard() {
                tracing::warn!(error = chain(&error), "cannot throw away what a failed fetch left behind");
            }
            return Err(e);
        }
        Ok(self.head()?)
    }

    /// Makes what was fetched the head, unless something of it cannot stay.
    async fn let_in(&self, request: &FetchRequest<'_>) -> Result<(), FetchError> {
        let mirror = self.clone();
        let checked = tokio::task::spawn_blocking(move || mirror.unfit()).await;
        let unfit = match checked.map_err(|e| self.unkept(io::Error::other(e)))?? {
            None => self.beyond_room(request).await?.map(Unfit::TooLarge),
            unfit => unfit,
        };
        let url = request.shown.to_owned();
        match unfit {
            Some(Unfit::TooLarge(what)) => Err(FetchError::TooLarge { url, what }),
            Some(Unfit::Unreadable(what)) => Err(FetchError::Unreadable { url, what }),
            None => Ok(self.advance()?),
        }
    }

    /// What came in that cannot stay, by what it is.
    fn unfit(&self) -> Result<Option<Unfit>, SourceError> {
        let door = Door::open(&self.folder).map_err(|e| self.unkept(e))?;
        let repository = self.repository()?;
        if let Some(unfit) = door.unfit(&repository).map_err(|e| self.unkept(e))? {
            return Ok(Some(unfit));
        }
        let id = repository.refname_to_id(FETCHED).map_err(|e| self.damaged(e))?;
        let (_, kind) = repository.odb().and_then(|objects| objects.read_header(id)).map_err(|e| self.damaged(e))?;
        let is_commit = kind == ObjectType::Commit;
        Ok((!is_commit)
            .then(|| Unfit::Unreadable(format!("the branch leads to {id}, which is a {kind} and no commit"))))
    }

    /// Why there is no room for what came in, in words. It may use the reserve only where it does not need it for long:
    /// once what it replaces is dropped.
    async fn beyond_room(&self, request: &FetchRequest<'_>) -> Result<Option<String>, FetchError> {
        let door = Door::open(&self.folder).map_err(|e| self.unkept(e))?;
        if door.is_unused().map_err(|e| self.unkept(e))? {
            return Ok(None);
        }
        let size = door::size(&self.folder);
        let Bounds { most, reserve } = self.bounds;
        if size > most {
            return Ok(Some(format!("the mirror would have {size} bytes with it, and {most} are the most")));
        }
        let most = most - reserve;
        if size <= most {
            return Ok(None);
        }
        let needed = fetch::needed_by_fetched(&self.git(), request).await?;
        Ok((needed > most).then(|| format!("the branch and its history have {needed} bytes, and {most} are the most")))
    }

    /// Makes what was fetched the head. What came counts as checked first: what is noted as not checked is thrown away after
    /// a crash, and the head must not need it.
    fn advance(&self) -> Result<(), SourceError> {
        let repository = self.repository()?;
        let mut fetched = repository.find_reference(FETCHED).map_err(|e| self.damaged(e))?;
        let id = fetched.target();
        Door::open(&self.folder).and_then(Door::close).map_err(|e| self.unkept(e))?;
        if let Some(id) = id {
            repository.reference(HEAD, id, true, "fetched").map_err(|e| self.damaged(e))?;
        }
        fetched.delete().map_err(|e| self.damaged(e))
    }

    /// Throws away what a fetch left behind that did not end well, the files that a process was writing first.
    fn discard(&self) -> Result<(), SourceError> {
        fetch::clear(&self.folder);
        if !door::is_open(&self.folder) {
            return Ok(());
        }
        match fs::remove_file(self.folder.join(FETCHED)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(self.unkept(e)),
            _ => {}
        }
        Door::open(&self.folder).and_then(Door::throw_out).map_err(|e| self.unkept(e))
    }

    /// Reads the tree of a commit below `source.path`.
    ///
    /// # Errors
    /// The commit is not known, or has no such folder. A single entry that cannot be used is a finding, and so is a
    /// tree that is larger than the bounds.
    pub fn read(&self, commit: &str) -> Result<Tree, SourceError> {
        let repository = self.repository()?;
        let found = self.commit(&repository, commit)?;
        let revision = Revision { branch: self.source.branch.clone(), commit: found.id().to_string() };
        match self.below(&repository, &found) {
            Ok(root) => read_root(&repository, root, revision.to_string()),
            Err(error) => budget::within(revision.to_string(), Err(error)),
        }
    }

    /// The same as far as some tenants need it: what holds for all, their own files, and of what lies under `files/` what
    /// is `named` in those.
    ///
    /// # Errors
    /// As of [`Mirror::read`].
    pub fn read_of(
        &self,
        commit: &str,
        tenants: &BTreeSet<String>,
        named: impl FnOnce(&Tree) -> BTreeSet<String>,
    ) -> Result<Tree, SourceError> {
        let repository = self.repository()?;
        let found = self.commit(&repository, commit)?;
        let revision = Revision { branch: self.source.branch.clone(), commit: found.id().to_string() }.to_string();
        match self.below(&repository, &found) {
            Ok(root) => read_root_of(&repository, root, revision, tenants, named),
            Err(error) => budget::within(revision, Err(error)),
        }
    }

    /// How a head relates to an older one.
    ///
    /// # Errors
    /// The new one is not known, or the mirror is damaged.
    pub fn relation(&self, old: &str, new: &str) -> Result<Relation, SourceError> {
        let repository = self.repository()?;
        let new = self.commit(&repository, new)?.id();
        let old = match self.commit(&repository, old) {
            Ok(commit) => commit.id(),
            Err(SourceError::Revision { .. }) => return Ok(Relation::NonFastForward),
            Err(e) => return Err(e),
        };
        if old == new {
            return Ok(Relation::Same);
        }
        match repository.graph_descendant_of(new, old).map_err(|e| self.damaged(e))? {
            true => Ok(Relation::Forward),
            false => Ok(Relation::NonFastForward),
        }
    }

    /// The mirror as git2 sees it now. Only this way of opening it looks where a shallow one ends.
    pub(super) fn repository(&self) -> Result<Repository, SourceError> {
        let flags = RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT;
        Repository::open_ext(&self.folder, flags, &[] as &[&Path]).map_err(|e| self.damaged(e))
    }

    /// A commit by its whole id.
    pub(super) fn commit<'r>(&self, repository: &'r Repository, id: &str) -> Result<Commit<'r>, SourceError> {
        let unknown = |source| SourceError::Revision { rev: id.to_owned(), path: self.shown(), source };
        let whole = if id.len() == 40 { id } else { "" };
        let id = Oid::from_str(whole).map_err(unknown)?;
        repository.find_commit(id).map_err(|e| match e.code() {
            ErrorCode::NotFound => unknown(e),
            _ => unparsed(repository, id, e).unwrap_or_else(|e| self.damaged(e)),
        })
    }

    pub(super) fn git(&self) -> Git<'_> {
        Git { program: &self.program, mirror: &self.folder, room: None }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn damaged(&self, source: git2::Error) -> SourceError {
        SourceError::Repository { path: self.shown(), source }
    }

    fn unkept(&self, source: io::Error) -> SourceError {
        SourceError::Mirror { path: self.shown(), source }
    }

    fn shown(&self) -> String {
        self.folder.display().to_string()
    }

    /// The head that was fetched last.
    fn head(&self) -> Result<String, SourceError> {
        let repository = self.repository()?;
        let id = repository.refname_to_id(HEAD).map_err(|e| self.damaged(e))?;
        // It is whatever the source calls a branch.
        repository.find_commit(id).map_err(|e| self.damaged(e))?;
        Ok(id.to_string())
    }

    /// The folder with fleet.yaml in it.
    fn below(&self, repository: &Repository, commit: &Commit<'_>) -> Result<Oid, SourceError> {
        let found = below(commit.tree_id(), &self.source.path, |id| folder(repository, id))?;
        let missing = || SourceError::PathMissing { path: self.source.path.clone(), commit: commit.id().to_string() };
        found.ok_or_else(missing)
    }

    /// Whether the mirror can be opened, and what it fetched last can be read, apart from what is there and cannot be
    /// parsed: whoever pushes must not have the mirror thrown away.
    fn is_sound(&self) -> bool {
        let Ok(repository) = self.repository() else { return false };
        match repository.refname_to_id(HEAD) {
            Ok(id) => !matches!(
                self.read(&id.to_string()),
                Err(SourceError::Repository { .. } | SourceError::Revision { .. })
            ),
            Err(e) => e.code() == ErrorCode::NotFound,
        }
    }

    /// Makes the mirror beside its place, so that half of one is never found there.
    fn make(&self) -> Result<(), SourceError> {
        let new = self.beside(".new");
        let made = || -> io::Result<()> {
            remove(&new)?;
            DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
            let mut options = RepositoryInitOptions::new();
            options.bare(true).external_template(false).no_reinit(true);
            Repository::init_opts(&new, &options).map_err(io::Error::other)?;
            fs::write(new.join(SETTINGS), &self.settings)?;
            fs::rename(&new, &self.folder)
        };
        made().map_err(|e| self.unkept(e))
    }

    /// Moves the mirror away and makes another.
    fn renew(&self) -> Result<(), SourceError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let moved_to = self.beside(&format!(".damaged-{seconds}"));
        tracing::warn!(mirror = %self.shown(), moved_to = %moved_to.display(), "the mirror is damaged and is made anew");
        let moved = || -> io::Result<()> {
            for old in self.moved_away()? {
                remove(&old)?;
            }
            match fs::rename(&self.folder, &moved_to) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            }
        };
        moved().map_err(|e| self.unkept(e))?;
        self.make()
    }

    /// What was moved away before. One is kept, for a person to look at.
    fn moved_away(&self) -> io::Result<Vec<PathBuf>> {
        let prefix = self.beside(".damaged-").into_os_string();
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        let entries = fs::read_dir(parent)?.collect::<Result<Vec<_>, _>>()?;
        let is_ours = |path: &PathBuf| path.as_os_str().as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        Ok(entries.into_iter().map(|entry| entry.path()).filter(is_ours).collect())
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path: OsString = self.folder.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    }

    /// git reads one line of the file, and could only say that the password is wrong.
    fn check_password(&self) -> Result<(), SecretError> {
        let Some(password) = self.source.password.as_ref().filter(|_| self.source.url.starts_with("http")) else {
            return Ok(());
        };
        match secret::read(password)?.as_str().contains('\n') {
            true => Err(SecretError::Unusable { path: secret::locate(password)?, what: "has more than one line" }),
            false => Ok(()),
        }
    }
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_without_git_is_told_so() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let source = Source::new("/srv/fleet.git");
        let mut mirror = Mirror::open(&folder.path().join("source.git"), &source)?;
        mirror.program = PathBuf::from("/nonexistent/git");
        assert!(matches!(mirror.fetch().await, Err(FetchError::NoGit)));
        Ok(())
    }

    type Tested<T> = Result<T, Box<dyn std::error::Error>>;

    fn git(work: &Path, arguments: &[&str]) -> Tested<String> {
        let mut command = std::process::Command::new("git");
        command.current_dir(work).args(["-c", "user.name=test", "-c", "user.email=test@example.com"]).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = command.output()?;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Commits so many bytes that cannot be compressed, and returns the commit.
    fn commit(work: &Path, name: &str, count: usize) -> Tested<String> {
        let mut bytes = vec![0; count];
        fastrand::Rng::new().fill(&mut bytes);
        fs::write(work.join(name), bytes)?;
        git(work, &["add", "--all"])?;
        git(work, &["commit", "--quiet", "--message", name])?;
        git(work, &["rev-parse", "HEAD"])
    }

    #[tokio::test]
    async fn a_mirror_that_is_full_takes_what_replaces_the_branch() -> Tested<()> {
        const MIB: usize = 1 << 20;
        let folder = tempfile::tempdir()?;
        let (work, place) = (folder.path().join("work"), folder.path().join("source.git"));
        git(folder.path(), &["init", "--quiet", "--initial-branch=main", "work"])?;
        let open = || -> Tested<Mirror> {
            let source = Source::new(work.to_str().ok_or("not UTF-8")?);
            Ok(Mirror { bounds: Bounds { most: 8 << 20, reserve: 2 << 20 }, ..Mirror::open(&place, &source)? })
        };
        let mirror = open()?;
        let first = commit(&work, "first", 10)?;
        assert_eq!(mirror.fetch().await?, first);
        let mut large = first.clone();
        for count in 0..5 {
            large = commit(&work, &format!("noise{count}"), MIB)?;
            assert_eq!(mirror.fetch().await?, large);
        }
        // The reserve is not for what a branch leads to, even in small pieces.
        for count in 5..8 {
            commit(&work, &format!("noise{count}"), MIB)?;
            let before = door::size(&place);
            for _ in 0..2 {
                let error = mirror.fetch().await.err();
                assert!(matches!(error, Some(FetchError::TooLarge { .. })), "{error:?}");
                assert_eq!((mirror.head()?, door::size(&place), door::is_open(&place)), (large.clone(), before, false));
            }
        }
        // It is for what replaces it, and for what follows on that.
        git(&work, &["reset", "--quiet", "--hard", &first])?;
        for name in ["other", "next"] {
            let next = commit(&work, name, 3 * MIB / 4)?;
            assert_eq!(mirror.fetch().await?, next);
            // Nothing new needs no room.
            assert_eq!(mirror.fetch().await?, next);
        }
        assert!(door::size(&place) > 6 << 20);
        // Nobody is done with the former branch, and another one fills the reserve.
        let full = commit(&work, "full", 2 * MIB)?;
        assert!(matches!(mirror.fetch().await, Err(FetchError::TooLarge { .. })));
        let mirror = open()?;
        let needed = BTreeSet::from([large.clone()]);
        for entry in fs::read_dir(place.join("objects/pack"))? {
            let earlier = SystemTime::now() - Duration::from_secs(7_200);
            fs::File::options().append(true).open(entry?.path())?.set_modified(earlier)?;
        }
        // No head came since, and what the branch led to is not needed: only what is in force is.
        assert!(mirror.maintain(needed.clone()).await);
        assert!(!mirror.maintain(needed).await, "not again for a while");
        assert!(door::size(&place) < 6 << 20, "{}", door::size(&place));
        assert!(mirror.read(&large).is_ok() && mirror.read(&first).is_ok());
        git(&work, &["reset", "--quiet", "--hard", &first])?;
        let repaired = commit(&work, "repaired", MIB)?;
        assert_eq!(mirror.fetch().await?, repaired);
        assert!(mirror.read(&full).is_err());
        Ok(())
    }
}
