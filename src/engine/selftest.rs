//! What a test of a runtime needs of an engine: an image of its own, and a container that only ends.

use std::{collections::HashMap, time::Duration};

use bollard::{
    models::{ContainerCreateBody, HostConfig, HostConfigLogConfig},
    query_parameters::{CreateImageOptions, RemoveImageOptions},
};
use futures_util::TryStreamExt;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::{CallError, Engine, absent_is_fine, http, inspect, query};

/// The repository of test images.
pub const SELFTEST_IMAGE: &str = "tenantd-selftest";

/// The label that names the runtime on a test container.
const SELFTEST_LABEL: &str = "io.tenantd.selftest";

/// The code that a test container ends with.
pub const SELFTEST_CODE: i64 = 77;

/// The program of the image.
const PROGRAM: &str = "selftest";

/// `exit(77)` for x86-64: mov edi, 77; mov eax, 60; syscall.
const X86_64: (u16, &[u8]) = (62, &[0xbf, 77, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);

/// The same for 64-bit Arm: mov x0, #77; mov x8, #93; svc #0.
const AARCH64: (u16, &[u8]) = (183, &[0xa0, 0x09, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]);

impl Engine {
    /// Makes the image of a test under a tag, and returns its id. `None` where there is no program for the engine's
    /// processor.
    ///
    /// # Errors
    /// The engine takes no image, or does not answer in time.
    pub async fn make_selftest_image(&self, tag: &str) -> Result<Option<String>, CallError> {
        let info: inspect::Info = self.get("/info").await?;
        let (machine, code) = match info.architecture.as_str() {
            "x86_64" | "amd64" => X86_64,
            "aarch64" | "arm64" => AARCH64,
            _ => return Ok(None),
        };
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(SELFTEST_IMAGE.to_owned()),
            tag: Some(tag.to_owned()),
            changes: vec![format!("ENTRYPOINT [\"/{PROGRAM}\"]")],
            ..CreateImageOptions::default()
        };
        let archive = bollard::body_full(archive(PROGRAM, &program(machine, code)).into());
        let path = "/images/create";
        let progress = self.commands.docker.create_image(Some(options), Some(archive), None).try_collect::<Vec<_>>();
        let lines = self.commands.run(Method::POST, path, self.call, progress).await?;
        let id = lines.into_iter().rev().filter_map(|line| line.status).find(|status| status.starts_with("sha256:"));
        let malformed =
            || CallError::Malformed { call: format!("POST {path}"), detail: "it names no image".to_owned() };
        id.ok_or_else(malformed).map(Some)
    }

    /// Makes a container of a test image that a runtime is to run.
    ///
    /// # Errors
    /// The engine refuses it or does not answer in time.
    pub async fn create_selftest(&self, image: &str, runtime: &str) -> Result<String, CallError> {
        let name = format!("{}-{:016x}", SELFTEST_IMAGE.replace('-', "."), fastrand::u64(..));
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            user: Some("1000:1000".to_owned()),
            labels: Some(HashMap::from([(SELFTEST_LABEL.to_owned(), runtime.to_owned())])),
            host_config: Some(HostConfig {
                runtime: Some(runtime.to_owned()),
                network_mode: Some("none".to_owned()),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        self.create(Some(&name), body).await.map(|created| created.id)
    }

    /// Waits for a container's end, and returns the code that it ended with.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn wait_container(&self, id: &str, deadline: Duration) -> Result<i64, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Waited {
            status_code: i64,
        }
        let path = self.versioned(&format!("/containers/{id}/wait"));
        let answer = self.http.call(Method::POST, &path, None, deadline).await?;
        http::parse::<Waited>(&path, &answer).map(|waited| waited.status_code)
    }

    /// Test containers of a runtime, by their ids: what a test left that was cut off.
    ///
    /// # Errors
    /// The engine does not answer in time.
    pub async fn selftests(&self, runtime: &str) -> Result<Vec<String>, CallError> {
        let filter = json!({"label": [format!("{SELFTEST_LABEL}={runtime}")]});
        let mut ids = Vec::new();
        let add = |row: inspect::ListedContainer| ids.push(row.id);
        self.get_list(&format!("/containers/json?all=1&filters={}", query(&filter.to_string())), add).await?;
        Ok(ids)
    }

    /// Removes a test image. One that is gone is no error.
    ///
    /// # Errors
    /// The engine refuses or does not answer in time.
    pub async fn remove_selftest_image(&self, tag: &str) -> Result<(), CallError> {
        let image = format!("{SELFTEST_IMAGE}:{tag}");
        let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
        let remove = self.commands.docker.remove_image(&image, Some(options), None);
        absent_is_fine(
            self.commands.run(Method::DELETE, &format!("/images/{image}"), self.call, remove).await.map(drop),
        )
    }
}

/// A program of one segment: the headers of the System V ABI, and the code behind them.
fn program(machine: u16, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u16 = 64 + 56;
    let size = u64::from(HEADERS) + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable of this machine, the version, where it begins, where the one program header is.
    for half in [2, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for long in [BASE + u64::from(HEADERS), 64, 0] {
        file.extend(long.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // All of the file, to be read and executed.
    for word in [1_u32, 5] {
        file.extend(word.to_le_bytes());
    }
    for long in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(long.to_le_bytes());
    }
    file.extend(code);
    file
}

/// An archive of one program, as tar writes it.
fn archive(name: &str, program: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", program.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend(program);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use std::{error::Error, os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn the_program_is_one_that_this_kernel_runs_and_tar_reads() -> Result<(), Box<dyn Error>> {
        let (machine, code) = if cfg!(target_arch = "aarch64") { AARCH64 } else { X86_64 };
        let folder = tempfile::tempdir()?;
        let tar = folder.path().join("image.tar");
        std::fs::write(&tar, archive(PROGRAM, &program(machine, code)))?;
        assert!(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(folder.path()).status()?.success());
        let file = folder.path().join(PROGRAM);
        assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o755);
        assert_eq!(Command::new(file).status()?.code().map(i64::from), Some(SELFTEST_CODE));
        Ok(())
    }

    #[test]
    fn both_programs_have_the_form_of_an_executable() {
        for (machine, code) in [X86_64, AARCH64] {
            let file = program(machine, code);
            assert_eq!(file.len(), 120 + code.len());
            assert_eq!(file[18..20], machine.to_le_bytes());
        }
    }
}
