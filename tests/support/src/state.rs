//! What the engine holds: containers and networks as the documents that inspect answers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Call;
use crate::events::Events;
use crate::networks::Pool;
use crate::options::{Ids, Image, Options};
use crate::routes::{self, Answer};

/// What a call is refused with: a status and the text of `{"message": …}`.
pub(crate) struct Refusal(pub u16, pub String);

pub(crate) type Outcome = Result<Answer, Refusal>;

pub(crate) fn refuse<T>(status: u16, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, message.into()))
}

#[derive(Clone)]
pub(crate) struct Container {
    pub doc: Value,
    /// Nanoseconds since the epoch.
    pub created: u64,
}

#[derive(Clone)]
pub(crate) struct Network {
    pub doc: Value,
    pub pools: Vec<Pool>,
}

/// Everything the engine knows. Tests look at it and tamper with it through
/// [`SimEngine::with`](crate::SimEngine::with).
///
/// Documents may be changed in every way but one: `Id` and `Name` are indexed, so a name changes
/// through the rename call ([`act`](Self::act)).
pub struct State {
    /// What kind of engine this is.
    pub options: Options,
    /// What every container has printed: the number of the stream, and bytes that are sent in frames of their own.
    pub printed: Vec<(u8, Vec<u8>)>,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) container_names: HashMap<String, String>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) network_names: HashMap<String, Vec<String>>,
    /// The first and last address of every pool that is taken.
    pub(crate) pools: BTreeMap<u32, u32>,
    pub(crate) ids: Ids,
    pub(crate) events: Events,
    /// Containers whose start hangs, and those that were freed of it.
    pub(crate) stuck: HashSet<String>,
    pub(crate) freed: HashSet<String>,
    /// The memory that containers use, in bytes.
    pub(crate) memory: HashMap<String, i64>,
    pub(crate) changed: bool,
    pub(crate) mutations: u64,
    now: u64,
}

/// What an engine held.
pub struct Kept(State);

impl State {
    pub(crate) fn new(options: Options) -> Self {
        let ids = Ids(options.seed);
        let mut state = Self {
            options,
            printed: Vec::new(),
            containers: BTreeMap::new(),
            container_names: HashMap::new(),
            networks: BTreeMap::new(),
            network_names: HashMap::new(),
            pools: BTreeMap::new(),
            ids,
            events: Events::default(),
            stuck: HashSet::new(),
            freed: HashSet::new(),
            memory: HashMap::new(),
            changed: false,
            mutations: 0,
            now: 0,
        };
        state.make_predefined_networks();
        state
    }

    /// A copy of all that the engine holds, for [`restore`](Self::restore).
    #[must_use]
    pub fn keep(&self) -> Kept {
        Kept(Self {
            options: self.options.clone(),
            containers: self.containers.clone(),
            container_names: self.container_names.clone(),
            networks: self.networks.clone(),
            network_names: self.network_names.clone(),
            pools: self.pools.clone(),
            stuck: self.stuck.clone(),
            freed: self.freed.clone(),
            memory: self.memory.clone(),
            ..Self::new(self.options.clone())
        })
    }

    /// Makes everything as it was, but for ids: none is ever given twice.
    pub fn restore(&mut self, kept: &Kept) {
        let Kept(kept) = kept;
        self.options = kept.options.clone();
        self.containers = kept.containers.clone();
        self.container_names = kept.container_names.clone();
        self.networks = kept.networks.clone();
        self.network_names = kept.network_names.clone();
        self.pools = kept.pools.clone();
        self.stuck = kept.stuck.clone();
        self.freed = kept.freed.clone();
        self.memory = kept.memory.clone();
    }

    /// The inspect document of the container of that very name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Value> {
        self.container_names.get(name).map(|id| &self.containers[id].doc)
    }

    /// The same, to be changed behind everybody's back: no event, no call.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    pub fn container_mut(&mut self, name: &str) -> &mut Value {
        let id = self.container_names.get(name).unwrap_or_else(|| panic!("no container is named {name}"));
        &mut self.containers.get_mut(id).expect("every name leads to a container").doc
    }

    /// All containers' inspect documents, by id.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        self.containers.values().map(|container| &container.doc)
    }

    /// The inspect document of the oldest network of that very name.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<&Value> {
        self.network_names.get(name)?.first().map(|id| &self.networks[id].doc)
    }

    /// The same, to be changed behind everybody's back.
    ///
    /// # Panics
    ///
    /// When there is none of that name.
    pub fn network_mut(&mut self, name: &str) -> &mut Value {
        let id = self.network_names.get(name).and_then(|ids| ids.first());
        let id = id.unwrap_or_else(|| panic!("no network is named {name}"));
        &mut self.networks.get_mut(id).expect("every name leads to a network").doc
    }

    /// All networks' inspect documents, by id; bridge, host and none are among them.
    pub fn networks(&self) -> impl Iterator<Item = &Value> {
        self.networks.values().map(|network| &network.doc)
    }

    /// Does what an API call does, with its events, as somebody else would: it meets no fault, is
    /// not logged and is not counted as a mutation. Returns the status and the answer's JSON (null
    /// when there is none).
    ///
    /// # Panics
    ///
    /// When the call would hang or stream.
    pub fn act(&mut self, method: &str, path_and_query: &str, body: &Value) -> (u16, Value) {
        let call = Call::new(method, path_and_query);
        let mutations = self.mutations;
        let answer = routes::route(self, &call, body.to_string().as_bytes());
        self.mutations = mutations;
        match answer {
            Answer::Json(status, text) => (status, serde_json::from_slice(&text).expect("JSON was made")),
            Answer::Empty(status) => (status, Value::Null),
            Answer::Text { status, .. } => (status, Value::Null),
            Answer::Stream(_) | Answer::Stuck => panic!("{call} has no answer in one piece"),
        }
    }

    /// Lets a running container's process end by itself with that code, killed for memory or not.
    ///
    /// # Panics
    ///
    /// When no running container has that name.
    pub fn exit(&mut self, name: &str, code: i64, oom: bool) {
        let id = self.container_names.get(name).cloned().unwrap_or_else(|| panic!("no container is named {name}"));
        assert_eq!(self.containers[&id].doc["State"]["Running"], true, "{name} does not run");
        if oom {
            self.container_event(&id, "oom", &[]);
        }
        self.die(&id, code, oom);
        self.changed = false;
    }

    /// Has the health check of a running container's image say something: `starting`, `healthy` or `unhealthy`.
    ///
    /// # Panics
    ///
    /// When no running container has that name.
    pub fn health(&mut self, name: &str, says: &str) {
        let id = self.container_names.get(name).cloned().unwrap_or_else(|| panic!("no container is named {name}"));
        let state = &mut self.containers.get_mut(&id).expect("it is named").doc["State"];
        assert_eq!(state["Running"], true, "{name} does not run");
        state["Health"] = serde_json::json!({"Status": says, "FailingStreak": 0, "Log": []});
        self.container_event(&id, &format!("health_status: {says}"), &[]);
    }

    /// Has a container use so much memory, in bytes, until it ends.
    ///
    /// # Panics
    ///
    /// When no running container has that name.
    pub fn use_memory(&mut self, name: &str, bytes: i64) {
        let id = self.container_names.get(name).cloned().unwrap_or_else(|| panic!("no container is named {name}"));
        assert_eq!(self.containers[&id].doc["State"]["Running"], true, "{name} does not run");
        self.memory.insert(id, bytes);
    }

    /// Puts an image under its reference, in the place of another that had it.
    pub fn tag_image(&mut self, image: Image) {
        let (id, reference) = (image.id(), image.reference.clone());
        self.options.images.retain(|other| other.reference != reference);
        self.options.images.push(image);
        self.image_event(&id, "tag", &reference);
    }

    /// Takes an image away. What runs of it goes on.
    ///
    /// # Panics
    ///
    /// When there is none of that reference.
    pub fn remove_image(&mut self, reference: &str) {
        let id = self.options.image(reference).unwrap_or_else(|| panic!("no image is {reference}")).id();
        self.options.images.retain(|image| image.id() != id);
        self.image_event(&id, "untag", reference);
        self.image_event(&id, "delete", &id);
    }

    /// The world as text that two engines can be compared by: what a client can set or see, sorted
    /// by name, without ids, times and addresses that the engine gave out.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut containers: Vec<Value> = self.containers().map(|doc| self.dump_container(doc)).collect();
        let mut networks: Vec<Value> = self.networks().map(|doc| self.dump_network(doc)).collect();
        containers.sort_by_cached_key(ToString::to_string);
        networks.sort_by_cached_key(ToString::to_string);
        let world = json!({"containers": containers, "networks": networks});
        serde_json::to_string_pretty(&world).expect("a document is JSON")
    }

    fn dump_container(&self, doc: &Value) -> Value {
        let mut config = doc["Config"].clone();
        if doc["Id"].as_str().zip(config["Hostname"].as_str()).is_some_and(|(id, host)| id.starts_with(host)) {
            config["Hostname"] = Value::Null;
        }
        let mut host = doc["HostConfig"].clone();
        if let Some(network) = host["NetworkMode"].as_str().and_then(|id| self.networks.get(id)) {
            host["NetworkMode"] = network.doc["Name"].clone();
        }
        let mut networks = doc["NetworkSettings"]["Networks"].clone();
        for endpoint in networks.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            *endpoint = json!({
                "IPAMConfig": endpoint["IPAMConfig"],
                "Connected": endpoint["EndpointID"] != "",
                "NetworkGone": endpoint["NetworkID"].as_str()
                    .is_some_and(|id| !id.is_empty() && !self.networks.contains_key(id)),
            });
        }
        let mounts: Vec<Value> = doc["Mounts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|mount| {
                let anonymous = mount["Type"] == "volume";
                json!([
                    mount["Type"],
                    if anonymous { &Value::Null } else { &mount["Source"] },
                    mount["Destination"],
                    mount["RW"]
                ])
            })
            .collect();
        json!({
            "": doc["Name"], "Config": config, "HostConfig": host, "Image": doc["Image"], "Mounts": mounts,
            "Networks": networks, "Status": doc["State"]["Status"], "ExitCode": doc["State"]["ExitCode"],
        })
    }

    fn dump_network(&self, doc: &Value) -> Value {
        let mut copy = doc.clone();
        let mut members: Vec<&str> = doc["Containers"]
            .as_object()
            .into_iter()
            .flat_map(|all| all.values())
            .filter_map(|member| member["Name"].as_str())
            .collect();
        members.sort_unstable();
        copy["Containers"] = json!(members);
        copy["Id"] = Value::Null;
        copy["Created"] = Value::Null;
        copy[""] = copy["Name"].take();
        copy
    }

    /// Whether a start that hangs, or that was freed and is not through yet, holds the container.
    pub(crate) fn is_held(&self, id: &str) -> bool {
        self.stuck.contains(id) || self.freed.contains(id)
    }

    /// The time in nanoseconds since the epoch; it never stands still.
    pub(crate) fn tick(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        self.now = u64::try_from(now).unwrap_or(u64::MAX).max(self.now + 1);
        self.now
    }

    /// The container that a call means: by id, by name, or by a prefix of one id only.
    pub(crate) fn find_container(&self, term: &str) -> Result<String, Refusal> {
        if self.containers.contains_key(term) {
            return Ok(term.to_owned());
        }
        if let Some(id) = self.container_names.get(term.strip_prefix('/').unwrap_or(term)) {
            return Ok(id.clone());
        }
        match by_prefix(&self.containers, term) {
            (Some(id), false) => Ok(id.clone()),
            (Some(_), true) => refuse(500, format!("Multiple IDs found with provided prefix: {term}")),
            (None, _) => refuse(404, format!("No such container: {term}")),
        }
    }

    /// The network that a call means: by id, by a name that is the only one, or by a prefix.
    pub(crate) fn find_network(&self, term: &str) -> Result<String, Refusal> {
        if self.networks.contains_key(term) {
            return Ok(term.to_owned());
        }
        match self.network_names.get(term).map_or(&[][..], Vec::as_slice) {
            [id] => return Ok(id.clone()),
            [] => {}
            many => {
                let found = many.len();
                return refuse(400, format!("{found} matches found based on name: network {term} is ambiguous"));
            }
        }
        match by_prefix(&self.networks, term) {
            (Some(id), false) => Ok(id.clone()),
            (Some(_), true) => refuse(400, format!("2 matches found based on ID prefix: network {term} is ambiguous")),
            (None, _) => refuse(404, format!("network {term} not found")),
        }
    }
}

/// The first id of that prefix, and whether there is a second one.
fn by_prefix<'a, T>(map: &'a BTreeMap<String, T>, prefix: &str) -> (Option<&'a String>, bool) {
    let mut found = map.range(prefix.to_owned()..).map(|(id, _)| id).take_while(|id| id.starts_with(prefix));
    let first = if prefix.is_empty() { None } else { found.next() };
    (first, first.is_some() && found.next().is_some())
}

/// A time as the engine writes it.
pub(crate) fn rfc3339(nanos: u64) -> String {
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, with years that begin in March (Howard Hinnant, days_from_civil).
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}
