//! `tenantd completions` and `tenantd man`: what a package brings beside the binary.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Command;
use clap_mangen::Man;

use super::{EXIT_OK, output};

#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub struct Manual {
    /// The folder that they are written into
    dir: PathBuf,
}

/// What the page of tenantd itself says beside its options.
const MORE: &str = r#".SH "EXIT STATUS"
.TP
\fB0\fR
Nothing is wrong.
.TP
\fB1\fR
Something is wrong: an invalid file, a blocked tenant, a failed step.
.TP
\fB2\fR
The command line is wrong, or with \fBplan \-\-detailed\-exitcode\fR something would change.
.SH ENVIRONMENT
.TP
\fBDOCKER_HOST\fR
The engine's socket, such as unix:///var/run/docker.sock, where \fB\-\-engine\fR is not given.
.TP
\fBNO_COLOR\fR
Print without colour.
.SH FILES
.TP
\fI/etc/tenantd/host.yaml\fR
The host's settings.
.TP
\fI/var/lib/tenantd\fR
The tenants' workspaces, and what tenantd keeps itself.
.TP
\fI/run/tenantd/tenantd.sock\fR
The daemon's socket.
.SH "SEE ALSO"
\fBdocker\fR(1), \fBgit\fR(1), \fBsystemctl\fR(1)
"#;

/// Prints what a shell completes the command line with.
pub fn completions(command: &Completions, mut program: Command) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut program, "tenantd", &mut script);
    output::print_data(&String::from_utf8_lossy(&script))?;
    Ok(EXIT_OK)
}

/// Writes a manual page for tenantd and one for each of its commands.
pub fn pages(command: &Manual, program: Command) -> anyhow::Result<u8> {
    let dir = &command.dir;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut root = program.disable_help_subcommand(true);
    root.build();
    write(&root, MORE, dir)?;
    Ok(EXIT_OK)
}

fn write(command: &Command, more: &str, dir: &Path) -> anyhow::Result<()> {
    let page = Man::new(command.clone()).source(concat!("tenantd ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text).context("cannot render a manual page")?;
    text.extend(more.as_bytes());
    let path = dir.join(page.get_filename());
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below, "", dir)?;
    }
    Ok(())
}
