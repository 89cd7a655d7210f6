//! What kind of engine is simulated.

use std::time::Duration;

use serde_json::{Value, json};

const RECORDED: [(&str, &str); 8] = [
    ("20.10", include_str!("../recorded/version-20.10.json")),
    ("23.0", include_str!("../recorded/version-23.0.json")),
    ("24.0", include_str!("../recorded/version-24.0.json")),
    ("25.0", include_str!("../recorded/version-25.0.json")),
    ("26.1", include_str!("../recorded/version-26.1.json")),
    ("27.5", include_str!("../recorded/version-27.5.json")),
    ("28.2", include_str!("../recorded/version-28.2.json")),
    ("29.0", include_str!("../recorded/version-29.0.json")),
];

/// The releases for which an answer of `GET /version` is recorded, oldest first.
pub fn recorded_engines() -> impl Iterator<Item = &'static str> {
    RECORDED.iter().map(|(name, _)| *name)
}

/// What kind of engine is simulated. All of it may be changed while the engine runs, through
/// [`State::options`](crate::State::options).
#[derive(Clone, Debug)]
pub struct Options {
    /// The answer to `GET /version`; the API's bounds are read from it.
    pub version: Value,
    /// What the engine calls itself.
    pub id: String,
    /// The folder of its own data.
    pub root: String,
    /// The runtimes that a container may name.
    pub runtimes: Vec<Runtime>,
    /// The runtime of a container that names none.
    pub default_runtime: String,
    /// The images that are there. No image is ever pulled.
    pub images: Vec<Image>,
    /// Whether it takes images in archives, in which it never looks: each has one program, `/selftest`, that ends with 77.
    pub imports: bool,
    /// Which limits the kernel enforces.
    pub limits: Limits,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Processors; a `NanoCpus` above them is refused.
    pub cpus: u32,
    /// Whether the source of a bind mount must exist on this machine at create.
    pub check_bind_sources: bool,
    /// Whether `CheckDuplicate` works; the real engine's does not against concurrent creates.
    pub check_duplicate_networks: bool,
    /// Whether containers are confined by a default profile of system calls.
    pub seccomp: bool,
    /// A profile of system calls in the place of the default one.
    pub seccomp_profile: Option<String>,
    /// Whether its configuration has containers confined by SELinux.
    pub selinux: bool,
    /// The user and group of the host that root of containers is, where they are others (`userns-remap`).
    pub userns: Option<(u32, u32)>,
    /// The limits of its configuration, which it shows in each container that has none of the name.
    pub default_ulimits: Vec<Value>,
    /// The log options of its configuration, which a container gets as it is made.
    pub log_options: Value,
    /// The options of its configuration, which a network gets as it is made.
    pub network_options: Value,
    /// Further warnings in the answer to each create of a container.
    pub create_warnings: Vec<String>,
    /// How long every call takes at least.
    pub latency: Duration,
    /// What the ids are derived from.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self::engine("20.10")
    }
}

impl Options {
    /// An engine of one of the [`recorded_engines`], with the runtimes runc and runsc, the image
    /// `tenantd/test:1`, and every limit.
    ///
    /// # Panics
    ///
    /// When no answer of that release is recorded.
    #[must_use]
    pub fn engine(release: &str) -> Self {
        let (_, text) = RECORDED
            .iter()
            .find(|(name, _)| *name == release)
            .unwrap_or_else(|| panic!("no recorded answer of engine {release}"));
        Self {
            version: serde_json::from_str(text).expect("the recorded answers are JSON"),
            runtimes: vec![Runtime::new("runc"), Runtime { live_update: false, ..Runtime::new("runsc") }],
            default_runtime: "runc".into(),
            id: "SIMULATED".to_owned(),
            root: "/var/lib/docker".to_owned(),
            images: vec![Image::new("tenantd/test:1")],
            imports: false,
            limits: Limits::default(),
            cgroup_version: if release == "20.10" { 1 } else { 2 },
            cpus: 64,
            check_bind_sources: true,
            check_duplicate_networks: true,
            seccomp: true,
            seccomp_profile: None,
            selinux: false,
            userns: None,
            default_ulimits: Vec::new(),
            log_options: json!({}),
            network_options: json!({}),
            create_warnings: Vec::new(),
            latency: Duration::ZERO,
            seed: 1,
        }
    }

    /// The newest API version that is spoken, such as `1.41`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.version["ApiVersion"].as_str().expect("an engine reports its ApiVersion")
    }

    /// The oldest API version that is spoken, such as `1.12`.
    #[must_use]
    pub fn min_api_version(&self) -> &str {
        self.version["MinAPIVersion"].as_str().expect("an engine reports its MinAPIVersion")
    }

    /// Whether the newest API version is at least `1.minor`.
    pub(crate) fn api_at_least(&self, minor: u32) -> bool {
        api_number(self.api_version()) >= Some((1, minor))
    }

    pub(crate) fn image(&self, reference: &str) -> Option<&Image> {
        let with_tag = with_default_tag(reference);
        self.images.iter().find(|image| {
            let id = image.id();
            let hex = id.trim_start_matches("sha256:");
            image.reference == with_tag
                || id == reference
                || (!reference.is_empty() && hex.starts_with(reference))
                || image.digest() == reference
        })
    }
}

/// A version as numbers, so that 1.9 comes before 1.41.
pub(crate) fn api_number(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The reference as the engine prints it: with `:latest` where it has neither tag nor digest.
pub(crate) fn with_default_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

/// A runtime that containers may name.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Its name.
    pub name: String,
    /// Whether a running container of it can be updated.
    pub live_update: bool,
    /// Whether a start never ends, and with it every later call on that container.
    pub hangs: bool,
    /// The code that each of its containers ends with right after the start, if it is broken.
    pub ends_with: Option<i64>,
}

impl Runtime {
    /// A runtime that works.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), live_update: true, hangs: false, ends_with: None }
    }
}

/// An image that is there.
#[derive(Clone, Debug)]
pub struct Image {
    /// Repository and tag, such as `tenantd/test:1`.
    pub reference: String,
    /// Its `Config`: `Env`, `Cmd`, `Entrypoint`, `Volumes`, `Labels`, `WorkingDir`, `User`.
    pub config: Value,
}

impl Image {
    /// An image that runs `/sleep` and sets nothing else.
    #[must_use]
    pub fn new(reference: &str) -> Self {
        Self { reference: with_default_tag(reference), config: json!({"Cmd": ["/sleep"], "Env": ["PATH=/bin"]}) }
    }

    /// The image's id, `sha256:` and 64 hex digits: derived from reference and config.
    #[must_use]
    pub fn id(&self) -> String {
        let text = format!("{}{}", self.reference, self.config);
        let seed = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("sha256:{}", Ids(seed).next_id())
    }

    /// The reference by digest, `repository@sha256:…`.
    #[must_use]
    pub fn digest(&self) -> String {
        let repository = self.reference.rsplit_once(':').map_or(self.reference.as_str(), |(name, _)| name);
        format!("{repository}@{}", self.id())
    }
}

/// Which limits the kernel enforces. What it does not is discarded at create, with a warning.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Limits {
    pub memory: bool,
    pub swap: bool,
    pub pids: bool,
    pub cpu: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: true, swap: true, pids: true, cpu: true }
    }
}

/// A deterministic source of ids.
#[derive(Debug)]
pub(crate) struct Ids(pub u64);

impl Ids {
    /// 64 hexadecimal digits.
    pub fn next_id(&mut self) -> String {
        use std::fmt::Write as _;
        let mut id = String::with_capacity(64);
        for _ in 0..4 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            write!(id, "{:016x}", word ^ (word >> 31)).expect("a string takes any text");
        }
        id
    }
}
