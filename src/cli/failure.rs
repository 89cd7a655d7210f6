//! Why a command did not do what it was asked for: a kind, a chain of causes and a hint.
//!
//! Commands return whatever error they meet. What its kind is and what to do next stands here, for all errors that more than
//! one command meets; a command that knows more says so by [`Failure`]. One that travels on, into records and statuses,
//! says in its own text what to do, because there is no line beside it.

use std::{error::Error, fmt, io, iter};

use crate::{
    daemon::StateError,
    engine::{CallError, ConnectError, VersionError},
    fault::chain,
    gateway::{
        RunError,
        accounting::{ledger::LedgerError, usage::UsageError},
        process::privilege::PrivilegeError,
        routes::TlsError,
    },
    host::{LockError, VersionError as FolderVersionError, WorkspaceError, namespace::NamespaceError},
    ingress,
    journal::{Broken, JournalError, Problem},
    plan::saved::Unusable,
    snapshot::SnapshotError,
    source::SourceError,
    web::{BindError, ClientError, RefusalKind},
};

use super::output;

/// Whose it is to put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Who gave the command: what was asked for cannot be, or must not.
    Asked,
    /// Whoever looks after the host: its settings say something that cannot be used.
    Settings,
    /// The same: the host, the engine or the daemon does not do what is needed.
    Host,
    /// Nobody who reads this: tenantd is wrong.
    Internal,
}

impl FailureKind {
    /// What an error of it begins with.
    const fn heading(self) -> &'static str {
        match self {
            Self::Asked | Self::Host => "error",
            Self::Settings => "error in the host's settings",
            Self::Internal => "internal error",
        }
    }

    /// What to do about an error of it where nothing better is known.
    const fn hint(self) -> Option<&'static str> {
        match self {
            Self::Asked | Self::Settings | Self::Host => None,
            Self::Internal => {
                Some("this is a fault of tenantd; report it with what you ran and what `tenantd --version` says")
            }
        }
    }
}

/// An error that a command makes itself.
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    what: String,
    hint: Option<String>,
}

impl Failure {
    fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None }
    }

    /// What was asked for cannot be, or must not.
    pub fn asked(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Asked, what)
    }

    /// The host's settings cannot be used.
    pub fn settings(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Settings, what)
    }

    /// Something on the host is not as it is needed.
    pub fn host(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Host, what)
    }

    /// What to do next, as a sentence without an end.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {}

/// Writes an error to standard error, with what to do next.
pub fn print(error: &anyhow::Error) {
    output::message(&report(error.as_ref()));
}

/// The lines that a person reads of an error: what went wrong with every cause, each said once, and what to do next.
pub fn report(error: &(dyn Error + 'static)) -> String {
    let causes = || iter::successors(Some(error), |&error| error.source());
    let (kind, hint) = causes().find_map(known).unwrap_or((FailureKind::Host, None));
    let hint = hint.or_else(|| causes().find_map(of_the_kernel)).or_else(|| kind.hint().map(str::to_owned));
    let mut text = format!("{}: {}", kind.heading(), chain(error));
    if let Some(hint) = hint {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}

/// Kind and hint of an error that is known here.
fn known(error: &(dyn Error + 'static)) -> Option<(FailureKind, Option<String>)> {
    let of = |kind, hint: Option<&str>| Some((kind, hint.map(str::to_owned)));
    if let Some(Failure { kind, hint, .. }) = error.downcast_ref() {
        return Some((*kind, hint.clone()));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(of_client(error));
    }
    if let Some(error) = error.downcast_ref() {
        let (kind, hint) = of_source(error);
        return of(kind, hint);
    }
    let engine = error.downcast_ref().map(|error| match error {
        ConnectError::Call(error) => of_call(error),
        ConnectError::Version(error) => of_version(error),
    });
    if let Some(hint) = engine.or_else(|| error.downcast_ref().map(of_call)) {
        return of(FailureKind::Host, hint);
    }
    if let Some(error) = error.downcast_ref() {
        return of(FailureKind::Asked, of_saved(error));
    }
    if let Some(error) = error.downcast_ref() {
        return of(FailureKind::Asked, of_snapshot(error));
    }
    if let Some(error) = error.downcast_ref() {
        let (kind, hint) = of_listening(error);
        return of(kind, hint);
    }
    let journal = error.downcast_ref().map(of_journal);
    if let Some(hint) = journal.or_else(|| error.downcast_ref().map(of_chain)) {
        return of(FailureKind::Host, hint);
    }
    if let Some(error) = error.downcast_ref() {
        return of(FailureKind::Host, of_lock(error));
    }
    if let Some(error) = error.downcast_ref() {
        return of(FailureKind::Host, of_state(error));
    }
    if let Some(error) = error.downcast_ref() {
        let (kind, hint) = of_workspace(error);
        return of(kind, hint);
    }
    let proxy = error.downcast_ref().map(of_gateway).or_else(|| error.downcast_ref().map(of_ingress));
    if let Some((kind, hint)) = proxy.or_else(|| error.downcast_ref().map(of_namespace)) {
        return of(kind, hint);
    }
    error.is::<tokio::task::JoinError>().then_some((FailureKind::Internal, None))
}

fn of_client(error: &ClientError) -> (FailureKind, Option<String>) {
    let hint = match error {
        // The daemon says itself what to do.
        ClientError::Refused(refusal) => return (of_refusal(refusal.kind), refusal.hint.clone()),
        ClientError::Unreachable { .. } => {
            "is `tenantd run` running? `systemctl status tenantd` shows it; `socket` in host.yaml says where it listens"
        }
        ClientError::Forbidden { .. } => "ask as root, or as a member of the group that socketGroup in host.yaml names",
        ClientError::Broken { .. } | ClientError::TimedOut { .. } => {
            "it may have been done all the same: `tenantd status` and `tenantd events` show it"
        }
        ClientError::Unexplained { .. } | ClientError::Malformed(_) => {
            "is the daemon of another version? Restart it after an update"
        }
    };
    (FailureKind::Host, Some(hint.to_owned()))
}

fn of_refusal(kind: RefusalKind) -> FailureKind {
    match kind {
        RefusalKind::NotFound
        | RefusalKind::Conflict
        | RefusalKind::Invalid
        | RefusalKind::TooLarge
        | RefusalKind::TooOften => FailureKind::Asked,
        RefusalKind::Unauthenticated
        | RefusalKind::Forbidden
        | RefusalKind::TimedOut
        | RefusalKind::Unavailable
        | RefusalKind::Capacity
        | RefusalKind::Malformed
        | RefusalKind::MethodNotAllowed => FailureKind::Host,
    }
}

fn of_source(error: &SourceError) -> (FailureKind, Option<&'static str>) {
    match error {
        SourceError::Repository { .. } | SourceError::Unparsed { .. } => {
            (FailureKind::Host, Some("`git fsck` in the repository shows what is damaged; a fresh clone has all of it"))
        }
        SourceError::NotARepository(_) => (
            FailureKind::Asked,
            Some("name a clone of the config repo, or read a folder that is not committed by --worktree"),
        ),
        SourceError::Revision { .. } => {
            (FailureKind::Asked, Some("`git log --all` lists what there is; `git fetch` brings what is missing"))
        }
        SourceError::Folder { .. } => (FailureKind::Asked, None),
        SourceError::NeedsGit(_) => (FailureKind::Host, Some("install git, or put it into PATH")),
        SourceError::Setting { .. } | SourceError::Secret(_) => (FailureKind::Settings, None),
        SourceError::TooLarge(_) => {
            (FailureKind::Asked, Some("docs/architecture.md has the bounds; two smaller fleets have twice the room"))
        }
        // They say what to do in their own text, which statuses show as well.
        SourceError::Owner { .. }
        | SourceError::Format { .. }
        | SourceError::Partial { .. }
        | SourceError::Beside { .. }
        | SourceError::PathMissing { .. } => (FailureKind::Asked, None),
        SourceError::Ask { .. } | SourceError::Mirror { .. } => (FailureKind::Host, None),
    }
}

fn of_call(error: &CallError) -> Option<&'static str> {
    match error {
        CallError::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("run it as root, or as a member of the socket's group")
        }
        CallError::Unreachable { .. } => {
            Some("start the engine, or name its socket by --engine, DOCKER_HOST or `engine` in host.yaml")
        }
        CallError::Broken { .. } | CallError::TimedOut { .. } => Some(
            "what was asked for may be done all the same: `tenantd plan` shows what is left; the engine's own log says more",
        ),
        // The engine's own words, or what was declared.
        CallError::Refused { .. } | CallError::Unnamed { .. } => None,
        CallError::Malformed { .. } => Some("is it a Docker Engine that listens there? `docker version` shows it"),
    }
}

fn of_version(error: &VersionError) -> Option<&'static str> {
    match error {
        VersionError::TooOld { .. } => Some("update the engine"),
        VersionError::TooNew { .. } => Some("update tenantd"),
        VersionError::Unreadable(_) => Some("is it a Docker Engine that listens there? `docker version` shows it"),
    }
}

fn of_saved(error: &Unusable) -> Option<&'static str> {
    match error {
        Unusable::Other(_) | Unusable::Changed => {
            Some("save one by `tenantd plan --out FILE`, and leave the file as it is")
        }
        Unusable::Version(_) => Some("plan again with this tenantd"),
    }
}

fn of_snapshot(error: &SnapshotError) -> Option<&'static str> {
    match error {
        SnapshotError::Form | SnapshotError::Json(_) | SnapshotError::Changed => {
            Some("take one by `tenantd snapshot`, and leave the file as it is")
        }
        SnapshotError::Version(_) => Some("take one with this version of tenantd"),
        SnapshotError::Signature(_) => {
            Some("an Ed25519 key of OpenSSH without a passphrase signs; `snapshot` in host.yaml names it")
        }
    }
}

fn of_listening(error: &BindError) -> (FailureKind, Option<&'static str>) {
    match error {
        BindError::Socket(_) => (FailureKind::Settings, None),
        BindError::NotLoopback(_) => (FailureKind::Settings, Some("let `listen` in host.yaml name 127.0.0.1 or [::1]")),
        BindError::Listen { .. } => {
            (FailureKind::Settings, Some("`ss -ltnp` shows who listens there; `listen` in host.yaml names another"))
        }
        BindError::Settings(_) => (FailureKind::Settings, None),
    }
}

fn of_journal(error: &JournalError) -> Option<&'static str> {
    match error {
        // It says what to do, to whoever reads a status as well.
        JournalError::Newer { .. } => None,
        JournalError::Io { .. } => None,
        JournalError::TooLong(_) | JournalError::Closed => None,
    }
}

fn of_chain(error: &Broken) -> Option<&'static str> {
    match &error.problem {
        Problem::Empty(_) => Some("name another folder by --journal; the daemon's is `journal` below dataRoot"),
        Problem::Unreadable(error) => of_journal(error),
        // The command that follows a chain says more of these.
        Problem::Shrunk
        | Problem::Altered(_)
        | Problem::Order { .. }
        | Problem::Unlinked
        | Problem::Misnamed
        | Problem::Missing(_)
        | Problem::CutOff { .. }
        | Problem::OtherHash(_)
        | Problem::AnchorDropped(_)
        | Problem::Newer(_) => None,
    }
}

fn of_lock(error: &LockError) -> Option<&'static str> {
    match error {
        LockError::Held { .. } => Some("let the other one end first; --lock-timeout waits for it"),
        LockError::Version(FolderVersionError::Newer { .. }) => {
            Some("use the tenantd that keeps it, or a later one; an older one would misread what lies there")
        }
        LockError::Version(FolderVersionError::Unknown(_)) => {
            Some("no tenantd wrote that; where none newer than this one was used here, remove the file")
        }
        LockError::Version(FolderVersionError::Io { .. }) | LockError::Io { .. } => None,
    }
}

fn of_state(error: &StateError) -> Option<&'static str> {
    match error {
        StateError::Io { .. } => None,
        StateError::TooMuch { .. } => Some("move tenants to another host, with a data root of its own"),
        // They say what to do.
        StateError::TooLarge { .. } | StateError::Newer { .. } => None,
    }
}

fn of_workspace(error: &WorkspaceError) -> (FailureKind, Option<&'static str>) {
    let hint = match error {
        WorkspaceError::Io { .. } => None,
        WorkspaceError::NoProgram(_) => Some("install it, or put it into PATH"),
        WorkspaceError::Program { .. } => Some("`tenantd workspace check TENANT` and `dmesg` may say more"),
        // They say what to do, to whoever reads a plan or a status as well.
        WorkspaceError::Damaged(_) | WorkspaceError::NotEmpty(_) | WorkspaceError::Covered(_) => None,
        WorkspaceError::Busy(_) => Some("`fuser -vm` with this path shows who uses it"),
        WorkspaceError::Unseen(_) => {
            Some("let the engine run in the host's mount namespace: a unit without PrivateMounts=, not in a container")
        }
        WorkspaceError::NoVolume(_) | WorkspaceError::NotArchived(_) => {
            Some("`tenantd workspace list` shows what there is, and what is archived")
        }
        WorkspaceError::Taken(_) => Some("a tenant has one workspace: it takes another back once that one is gone"),
        WorkspaceError::Ended => return (FailureKind::Internal, None),
    };
    (FailureKind::Host, hint)
}

fn of_privilege(error: &PrivilegeError) -> (FailureKind, Option<&'static str>) {
    match error {
        PrivilegeError::NotRoot(_) => {
            (FailureKind::Asked, Some("start its unit with `systemctl start`, or run it by sudo"))
        }
        // It says what to do.
        PrivilegeError::NoUser(..) => (FailureKind::Settings, None),
        PrivilegeError::Root(_) => {
            (FailureKind::Settings, Some("let it name a user that can do nothing else on this host"))
        }
        PrivilegeError::Refused(..) => (FailureKind::Host, None),
        PrivilegeError::Filter(_) => (FailureKind::Host, Some("it needs a kernel with CONFIG_SECCOMP_FILTER")),
    }
}

fn of_ingress(error: &ingress::RunError) -> (FailureKind, Option<&'static str>) {
    match error {
        ingress::RunError::NotDeclared => {
            (FailureKind::Settings, Some("write `ingress: {listen: [\"127.0.0.1:8080\"], domain: …}` into host.yaml"))
        }
        ingress::RunError::Namespace(error) => of_namespace(error),
        ingress::RunError::Privilege(error) => of_privilege(error),
        ingress::RunError::Tls(_) => (
            FailureKind::Settings,
            Some("let the group of ingress.user read the files of ingress.tls, and the folders that they are in"),
        ),
        ingress::RunError::Listen(..) => {
            (FailureKind::Host, Some("end what listens there, or let ingress.listen in host.yaml name another address"))
        }
        ingress::RunError::Io { .. } => (FailureKind::Host, None),
        ingress::RunError::Library(_) | ingress::RunError::Name(_) => (FailureKind::Internal, None),
    }
}

fn of_gateway(error: &RunError) -> (FailureKind, Option<&'static str>) {
    match error {
        RunError::Namespace(error) => of_namespace(error),
        RunError::Privilege(error) => of_privilege(error),
        RunError::Usage(error) => match error {
            UsageError::Io { .. } => (FailureKind::Host, None),
            UsageError::Malformed { .. } => (
                FailureKind::Host,
                Some("put the file back from a backup, or move it away: what it counted is lost then"),
            ),
            UsageError::Newer(_) => (FailureKind::Host, Some("run the newer tenantd again")),
        },
        RunError::Ledger(error) => match error {
            LedgerError::Io { .. } => (FailureKind::Host, None),
            LedgerError::Locked(_) => {
                (FailureKind::Host, Some("end the other gateway, or let egress.state in host.yaml name another folder"))
            }
            LedgerError::Damaged { .. } => (
                FailureKind::Host,
                Some("put the file back from a backup, or move it away: used credits are forgotten then"),
            ),
            LedgerError::Newer(_) => (FailureKind::Host, Some("run the newer tenantd again")),
            LedgerError::Closed => (FailureKind::Internal, None),
        },
        RunError::Tls(error) => match error {
            TlsError::Authorities { .. } | TlsError::Certificate { .. } => {
                (FailureKind::Settings, Some("let egress.caBundle in host.yaml name a file of certificates in PEM"))
            }
            TlsError::Provider(_) => (FailureKind::Internal, None),
        },
        RunError::Io { .. } => (FailureKind::Host, None),
    }
}

fn of_namespace(error: &NamespaceError) -> (FailureKind, Option<&'static str>) {
    match error {
        NamespaceError::Name(_) => {
            (FailureKind::Settings, Some("let egress.namespace in host.yaml be a plain name, such as tenantd"))
        }
        NamespaceError::Io { .. } => (FailureKind::Host, None),
    }
}

/// What to do where the kernel says no.
fn of_the_kernel(error: &(dyn Error + 'static)) -> Option<String> {
    let hint = match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::PermissionDenied => "run it as root, or as a user who may do that",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk, and try again",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only; `dmesg` may say why",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn rendered(error: impl Into<anyhow::Error>) -> String {
        report(error.into().as_ref())
    }

    #[test]
    fn an_error_is_its_causes_in_one_line_and_a_hint() {
        let failure = Failure::asked("there is no tenant \"bea\"").hint("did you mean bee?");
        assert_eq!(rendered(failure), "error: there is no tenant \"bea\"\nhint: did you mean bee?");
        let refused = CallError::Unreachable {
            socket: "/run/docker.sock".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        let error = anyhow::Error::new(ConnectError::Call(refused)).context("cannot use the engine");
        assert_eq!(
            rendered(error),
            "error: cannot use the engine: no Docker Engine answers on /run/docker.sock: permission denied\n\
             hint: run it as root, or as a member of the socket's group"
        );
    }

    #[test]
    fn a_hint_is_found_below_what_says_where_it_happened() {
        let result: Result<(), _> = Err(LockError::Held { path: "/data/lock".into(), holder: "process 1".to_owned() });
        let error = result.context("cannot begin").unwrap_err();
        assert!(rendered(error).ends_with("\nhint: let the other one end first; --lock-timeout waits for it"));
        let full = anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull)).context("cannot write plan.json");
        assert!(rendered(full).ends_with("\nhint: make room on the disk, and try again"));
    }

    #[test]
    fn what_the_gateway_needs_is_asked_of_whoever_can_give_it() {
        let begins = |error: RunError| rendered(error);
        let lines = begins(PrivilegeError::Root("egress.user").into());
        assert!(
            lines.starts_with("error in the host's settings: egress.user is root")
                && lines.contains("\nhint: let it name"),
            "{lines}"
        );
        let lines = begins(LedgerError::Locked("/var/lib/tenantd-gateway/ledger".into()).into());
        assert!(lines.starts_with("error: ") && lines.contains("egress.state"), "{lines}");
        let denied = NamespaceError::Io {
            action: "make",
            path: "/run/netns/tenantd".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        };
        assert!(begins(denied.into()).ends_with("\nhint: run it as root, or as a user who may do that"));
    }

    #[test]
    fn a_workspace_and_a_state_that_cannot_be_used_say_what_to_do() {
        let lines =
            rendered(anyhow::Error::new(WorkspaceError::NotArchived("ant.img".to_owned())).context("cannot restore"));
        assert!(
            lines.ends_with("\nhint: `tenantd workspace list` shows what there is, and what is archived"),
            "{lines}"
        );
        let lines = rendered(StateError::TooMuch { path: "/data/state.json".into() });
        assert!(lines.contains("\nhint: move tenants to another host"), "{lines}");
        let lines = rendered(WorkspaceError::Ended);
        assert!(lines.starts_with("internal error: "), "{lines}");
    }

    #[test]
    fn each_kind_is_told_apart() {
        assert_eq!(
            rendered(Failure::settings("host.yaml is not valid")),
            "error in the host's settings: host.yaml is not valid"
        );
        assert_eq!(rendered(anyhow::anyhow!("nobody knows it")), "error: nobody knows it");
        let failed = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = failed.block_on(async {
            let task = tokio::spawn(std::future::pending::<()>());
            task.abort();
            task.await.unwrap_err()
        });
        let lines = rendered(error);
        assert!(
            lines.starts_with("internal error: ") && lines.contains("\nhint: this is a fault of tenantd"),
            "{lines}"
        );
    }
}
