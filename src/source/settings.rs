//! What git is configured with for a source: a configuration file of our own, and nothing of the host's.
//!
//! A file, since the processes that git starts on this host for a local source read it as well, and
//! since what lies in a file is not on a command line.

use std::path::{Path, PathBuf};

use super::SourceError;
use crate::{host::secret, model::host::Source};

/// What is wrong in objects and accepted all the same, by git's names: years-old repositories have it, and no name of a
/// file nor a path in a tree can be taken for another by it. What git does not name here it refuses.
const ACCEPTED: [&str; 8] = [
    "zeroPaddedFilemode",
    "zeroPaddedDate",
    "badTimezone",
    "missingSpaceBeforeEmail",
    "missingNameBeforeEmail",
    "multipleAuthors",
    "nulInCommit",
    "gitattributesLineLength",
];

/// How a source is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    File,
    Ssh,
    Http,
    Https,
    Git,
}

impl Scheme {
    /// As git names it in `protocol.*.allow`.
    fn name(self) -> &'static str {
        match self {
            Scheme::File => "file",
            Scheme::Ssh => "ssh",
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Git => "git",
        }
    }

    fn of(url: &str) -> Option<Self> {
        if url.starts_with('/') {
            return Some(Self::File);
        }
        match url.split_once("://") {
            Some((name, _)) => {
                [Self::File, Self::Ssh, Self::Http, Self::Https, Self::Git].into_iter().find(|s| s.name() == name)
            }
            // The short form, `git@host:folder`. A word and two colons would name a helper of git's.
            None => {
                let (host, path) = url.split_once(':')?;
                let is_host = !host.is_empty() && !host.starts_with('-') && !host.contains('/');
                (is_host && !path.is_empty() && !path.starts_with(':')).then_some(Self::Ssh)
            }
        }
    }
}

/// The folder of a source that lies on this host, where file events report changes.
pub fn local_path(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// A URL without the user and password that could stand in it, fit to be shown.
pub fn shown_url(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{scheme}://{}{path}", authority.rsplit_once('@').map_or(authority, |(_, host)| host))
        }
        None => url.to_owned(),
    }
}

/// The configuration with which git reaches this source, and no other.
///
/// # Errors
/// A setting cannot be handed to git or ssh: a kind of URL that is not followed, a character that
/// means something to them, a credential that systemd did not hand over.
pub(super) fn compose(source: &Source) -> Result<String, SourceError> {
    let refuse = |key: &'static str, why: &str| SourceError::Setting { key, why: why.to_owned() };
    let url = &source.url;
    let scheme = Scheme::of(url)
        .filter(|_| !url.starts_with('-') && !url.chars().any(char::is_control))
        .ok_or_else(|| refuse("url", "is neither an absolute path nor a URL of ssh, https, http or git"))?;
    if !git2::Reference::is_valid_name(&format!("refs/heads/{}", source.branch)) || source.branch.starts_with('-') {
        return Err(refuse("branch", "is not the name of a branch"));
    }

    let mut file = String::new();
    let mut set = |section: &str, pairs: &[(&str, &str)]| {
        file.push_str(&format!("[{section}]\n"));
        for (key, value) in pairs {
            file.push_str(&format!("\t{key} = {}\n", quote_value(value)));
        }
    };
    // A local source belongs to whoever pushes to it.
    set("safe", &[("directory", "*")]);
    set("protocol", &[("allow", "never")]);
    set(&format!("protocol \"{}\"", scheme.name()), &[("allow", "always")]);
    // What comes in is one pack, which has a bound as a file, and what is large in it is never held in memory.
    set("fetch", &[("fsckObjects", "true"), ("unpackLimit", "1")]);
    let accepted = ACCEPTED.map(|kind| (kind, "ignore"));
    set("fetch \"fsck\"", &accepted);
    set("pack", &[("threads", "1"), ("windowMemory", "32m"), ("deltaCacheSize", "16m")]);
    // The source's address is what host.yaml says, and its password goes nowhere else. A connection
    // that died ends even where nobody is left to end it.
    set("http", &[("followRedirects", "false"), ("lowSpeedLimit", "1"), ("lowSpeedTime", "60")]);
    // What is needed is kept by references of our own, so that the last good commit can be read whatever the source
    // becomes; and no process outlives the one that was started.
    set("gc", &[("autoDetach", "false"), ("cruftPacks", "true")]);
    set("maintenance", &[("autoDetach", "false")]);
    let mut core = vec![
        ("hooksPath", "/dev/null".to_owned()),
        ("bigFileThreshold", "1m".to_owned()),
        ("deltaBaseCacheLimit", "16m".to_owned()),
    ];
    if scheme == Scheme::Ssh {
        core.push(("sshCommand", ssh_command(source)?));
    }
    set("core", &core.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>());
    if matches!(scheme, Scheme::Http | Scheme::Https)
        && let Some(password) = &source.password
    {
        let path = secret::locate(password).map_err(SourceError::Secret)?;
        let path = path.to_str().ok_or_else(|| refuse("password", "has a path that is not UTF-8"))?;
        let username = source.username.as_str();
        if username.chars().any(char::is_control) || path.chars().any(char::is_control) {
            return Err(refuse("username", "or the password's path holds a control character"));
        }
        let shown = shown_url(url);
        let site = shown.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        // An empty helper forgets those that came before.
        set("credential", &[("helper", "")]);
        set(&format!("credential {}", quote_value(&site)), &[("helper", &credential_helper(username, path))]);
    }
    Ok(file)
}

/// What git runs to learn the password. The shell reads it from its file, so that it is on no command
/// line and in no environment.
fn credential_helper(username: &str, path: &str) -> String {
    format!(
        "!f() {{ test \"$1\" = get || return 0; IFS= read -r secret < {}; \
         printf 'username=%s\\npassword=%s\\n' {} \"$secret\"; }}; f",
        quote_word(path),
        quote_word(username)
    )
}

/// The ssh that asks nobody, knows its host, and leaves no connection open.
fn ssh_command(source: &Source) -> Result<String, SourceError> {
    let mut command = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ControlMaster=no -o ControlPath=none \
                       -o ForwardAgent=no -o ClearAllForwardings=yes -o ServerAliveInterval=15"
        .to_owned();
    if let Some(key) = &source.ssh_key {
        command.push_str(&format!(" -o IdentitiesOnly=yes -i {}", quote_word(for_ssh("sshKey", key)?)));
    }
    if let Some(hosts) = &source.known_hosts {
        let option = format!("UserKnownHostsFile=\"{}\"", for_ssh("knownHosts", hosts)?);
        command.push_str(&format!(" -o GlobalKnownHostsFile=/dev/null -o {}", quote_word(&option)));
    }
    Ok(command)
}

/// A path in which ssh sees nothing but a path.
fn for_ssh<'a>(key: &'static str, path: &'a Path) -> Result<&'a str, SourceError> {
    path.to_str()
        .filter(|path| path.starts_with('/') && !path.chars().any(|c| c.is_control() || "\"%$\\".contains(c)))
        .ok_or_else(|| SourceError::Setting {
            key,
            why: "is not an absolute path, or holds a character that ssh would not take for one of a path".to_owned(),
        })
}

/// A word of a shell's command line.
fn quote_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A value in git's configuration file.
fn quote_value(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::model::host::Secret;

    fn source(url: &str) -> Source {
        Source::new(url)
    }

    /// What git reads out of the file under a key.
    fn git_reads(file: &str, key: &str) -> std::io::Result<String> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config");
        std::fs::write(&path, file)?;
        let output = Command::new("git").args(["config", "--file"]).arg(&path).args(["--get", key]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    #[test]
    fn only_the_way_that_the_url_names_is_open() -> Result<(), Box<dyn std::error::Error>> {
        for (url, open) in [
            ("/srv/fleet.git", "file"),
            ("file:///srv/fleet.git", "file"),
            ("ssh://git@example.com/fleet.git", "ssh"),
            ("git@example.com:fleet.git", "ssh"),
            ("https://example.com/fleet.git", "https"),
            ("http://example.com/fleet.git", "http"),
            ("git://example.com/fleet.git", "git"),
        ] {
            let file = compose(&source(url))?;
            for name in ["file", "ssh", "https", "http", "git", "ext"] {
                let allowed = git_reads(&file, &format!("protocol.{name}.allow"))?;
                assert_eq!(allowed == "always", name == open, "{url}: {name}");
            }
            assert_eq!(git_reads(&file, "protocol.allow")?, "never");
        }
        for url in ["", "fleet.git", "ext::sh -c id", "-oProxyCommand=id:x", "ftp://example.com/x", "/srv/a\nb", "--x"]
        {
            assert!(compose(&source(url)).is_err(), "{url:?}");
        }
        for branch in ["", "-x", "a..b", "a b", "a:b", "x.lock"] {
            let source = Source { branch: branch.to_owned(), ..source("/srv/fleet.git") };
            assert!(compose(&source).is_err(), "{branch:?}");
        }
        Ok(())
    }

    #[test]
    fn a_url_is_shown_without_who_may_use_it() {
        for (url, text) in [
            ("https://ada:s3cret@example.com:8443/a@b.git", "https://example.com:8443/a@b.git"),
            ("ssh://git@example.com/fleet.git", "ssh://example.com/fleet.git"),
            ("https://ada:s3@cret@example.com", "https://example.com"),
            ("/srv/a@b.git", "/srv/a@b.git"),
        ] {
            assert_eq!(shown_url(url), text);
        }
    }

    #[test]
    fn ssh_gets_its_files_in_words_that_a_shell_cannot_misread() -> Result<(), Box<dyn std::error::Error>> {
        let source = Source {
            ssh_key: Some(PathBuf::from("/etc/a 'key'; id")),
            known_hosts: Some(PathBuf::from("/etc/known hosts")),
            ..source("git@example.com:fleet.git")
        };
        let command = git_reads(&compose(&source)?, "core.sshCommand")?;
        let words =
            Command::new("sh").args(["-c", &format!("for word in {command}; do echo \"$word\"; done")]).output()?;
        let words = String::from_utf8_lossy(&words.stdout).into_owned();
        let words: Vec<&str> = words.lines().collect();
        assert!(words.starts_with(&["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]), "{words:?}");
        assert!(words.contains(&"/etc/a 'key'; id"), "{words:?}");
        assert!(words.contains(&"UserKnownHostsFile=\"/etc/known hosts\""), "{words:?}");
        for path in ["/etc/%h", "/etc/${HOME}", "/etc/a\"b", "key"] {
            assert!(compose(&Source { ssh_key: Some(PathBuf::from(path)), ..source.clone() }).is_err(), "{path}");
        }
        Ok(())
    }

    #[test]
    fn the_password_is_named_by_its_file_and_for_its_own_site() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("it's a token");
        std::fs::write(&path, "s3cret \"$HOME\\n\n")?;
        let source = Source {
            username: "o'ada".to_owned(),
            password: Some(Secret::File(path)),
            ..source("https://example.com:8443/team/fleet.git")
        };
        let file = compose(&source)?;
        assert!(!file.contains("s3cret"));
        let helper = git_reads(&file, "credential.https://example.com:8443.helper")?;
        let script = format!("{} get", helper.trim_start_matches('!'));
        let answer = Command::new("sh").args(["-c", &script]).output()?;
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "username=o'ada\npassword=s3cret \"$HOME\\n\n");
        Ok(())
    }
}
