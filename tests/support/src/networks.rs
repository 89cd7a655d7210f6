//! Networks, and the endpoints that tie containers to them.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::Call;
use crate::create::add_missing;
use crate::routes::{self, Answer, With, json_answer, template};
use crate::state::{Network, Outcome, Refusal, State, refuse, rfc3339};

/// The addresses of one subnet, first and last among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    first: u32,
    last: u32,
    length: u32,
    gateway: u32,
}

impl Pool {
    fn parse(subnet: &str, gateway: Option<&str>) -> Option<Self> {
        let (address, length) = subnet.split_once('/')?;
        let length: u32 = length.parse().ok().filter(|length| *length <= 32)?;
        let size = u32::MAX.checked_shr(length).unwrap_or(0);
        let first = u32::from(address.parse::<Ipv4Addr>().ok()?) & !size;
        let gateway = gateway.and_then(|text| text.parse::<Ipv4Addr>().ok()).map_or(first + 1, u32::from);
        Some(Self { first, last: first | size, length, gateway })
    }

    fn subnet(&self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.first), self.length)
    }
}

/// The pools that the engine takes from when no subnet is asked for: 31 of them, the first of which
/// is the default bridge's.
fn default_pools() -> impl Iterator<Item = Pool> {
    let large = (17..32).map(|net| format!("172.{net}.0.0/16"));
    let small = (0..16).map(|net| format!("192.168.{}.0/20", net * 16));
    large.chain(small).filter_map(|subnet| Pool::parse(&subnet, None))
}

impl State {
    pub(crate) fn make_predefined_networks(&mut self) {
        for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
            let pools: Vec<Pool> = default_pools().take(usize::from(name == "bridge")).collect();
            let config: Vec<Value> = pools.iter().map(|pool| json!({"Subnet": pool.subnet()})).collect();
            self.insert_network(name, &json!({"Driver": driver}), &config.into(), pools);
        }
    }

    fn insert_network(&mut self, name: &str, sent: &Value, config: &Value, pools: Vec<Pool>) -> String {
        let (id, created) = (self.ids.next_id(), self.tick());
        let flag = |key: &str| sent[key] == true;
        let map = |key: &str| {
            if sent[key].is_object() { sent[key].clone() } else { json!({}) }
        };
        let mut options = map("Options");
        if !is_predefined(name) {
            add_missing(&mut options, &self.options.network_options);
        }
        let doc = json!({
            "Name": name,
            "Id": id,
            "Created": rfc3339(created),
            "Scope": "local",
            "Driver": sent["Driver"].as_str().filter(|driver| !driver.is_empty()).unwrap_or("bridge"),
            "EnableIPv6": flag("EnableIPv6"),
            "IPAM": {"Driver": "default", "Options": sent["IPAM"]["Options"], "Config": config},
            "Internal": flag("Internal"),
            "Attachable": flag("Attachable"),
            "Ingress": false,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": false,
            "Containers": {},
            "Options": options,
            "Labels": map("Labels"),
        });
        self.network_names.entry(name.to_owned()).or_default().push(id.clone());
        self.pools.extend(pools.iter().map(|pool| (pool.first, pool.last)));
        self.networks.insert(id.clone(), Network { doc, pools });
        id
    }

    /// Whether no network has an address of that pool; those that are taken are disjoint.
    fn is_free(&self, pool: &Pool) -> bool {
        let before = self.pools.range(..=pool.last).next_back();
        before.is_none_or(|(_, last)| *last < pool.first)
    }

    /// Ties a container's endpoint of that name to a network, with an address of it.
    pub(crate) fn attach(&mut self, container: &str, endpoint: &str, network: &str) -> Result<(), Refusal> {
        let settings = &self.containers[container].doc["NetworkSettings"]["Networks"][endpoint];
        let asked = settings["IPAMConfig"]["IPv4Address"].as_str().and_then(|text| text.parse().ok());
        let address = self.networks[network].pools.first().map(|pool| (*pool, self.address(network, pool, asked)));
        let mut set = json!({"NetworkID": network, "EndpointID": self.ids.next_id()});
        let mut member =
            json!({"EndpointID": set["EndpointID"], "MacAddress": "", "IPv4Address": "", "IPv6Address": ""});
        if let Some((pool, address)) = address {
            let address = Ipv4Addr::from(address?);
            let [a, b, c, d] = address.octets();
            set["IPAddress"] = address.to_string().into();
            set["IPPrefixLen"] = pool.length.into();
            set["Gateway"] = Ipv4Addr::from(pool.gateway).to_string().into();
            set["MacAddress"] = format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}").into();
            member["IPv4Address"] = format!("{address}/{}", pool.length).into();
            member["MacAddress"] = set["MacAddress"].clone();
        }
        let doc = &mut self.containers.get_mut(container).expect("the caller found it").doc;
        member["Name"] = doc["Name"].as_str().unwrap_or_default().trim_start_matches('/').into();
        let network_doc = &mut self.networks.get_mut(network).expect("the caller found it").doc;
        let name = network_doc["Name"].as_str().unwrap_or_default().to_owned();
        network_doc["Containers"][container] = member;
        let endpoints = doc["NetworkSettings"]["Networks"].as_object_mut().expect("a container has endpoints");
        let mut settings = endpoints.remove(endpoint).unwrap_or_else(|| blank_endpoint(&Value::Null));
        for (key, value) in set.as_object().into_iter().flatten() {
            settings[key] = value.clone();
        }
        if !is_predefined(&name) {
            let short = Value::from(&container[..12]);
            let mut aliases = settings["Aliases"].as_array().cloned().unwrap_or_default();
            if !aliases.contains(&short) {
                aliases.push(short);
            }
            settings["Aliases"] = aliases.into();
        }
        endpoints.insert(name, settings);
        self.network_event(network, "connect", Some(container));
        Ok(())
    }

    fn address(&self, network: &str, pool: &Pool, asked: Option<Ipv4Addr>) -> Result<u32, Refusal> {
        let doc = &self.networks[network].doc;
        let members = doc["Containers"].as_object().into_iter().flat_map(Map::values);
        let taken: HashSet<u32> = members
            .filter_map(|member| member["IPv4Address"].as_str()?.split('/').next()?.parse::<Ipv4Addr>().ok())
            .map(u32::from)
            .chain([pool.gateway])
            .collect();
        if let Some(asked) = asked.map(u32::from) {
            return if taken.contains(&asked) { refuse(403, "Address already in use") } else { Ok(asked) };
        }
        match (pool.first + 1..pool.last).find(|address| !taken.contains(address)) {
            Some(address) => Ok(address),
            None => refuse(
                403,
                format!(
                    "no available IPv4 addresses on this network's address pools: {} ({network})",
                    doc["Name"].as_str().unwrap_or_default()
                ),
            ),
        }
    }

    /// Unties a container from the network that one of its endpoints is on; the endpoint stays.
    pub(crate) fn detach(&mut self, container: &str, endpoint: &str) {
        let doc = &mut self.containers.get_mut(container).expect("the caller found it").doc;
        let settings = &mut doc["NetworkSettings"]["Networks"][endpoint];
        for key in ["EndpointID", "Gateway", "IPAddress", "MacAddress"] {
            settings[key] = "".into();
        }
        settings["IPPrefixLen"] = 0.into();
        let network = settings["NetworkID"].as_str().unwrap_or_default().to_owned();
        if let Some(found) = self.networks.get_mut(&network) {
            if let Some(members) = found.doc["Containers"].as_object_mut() {
                members.remove(container);
            }
            self.network_event(&network, "disconnect", Some(container));
        }
    }

    /// Tells the networks that a container is on its new name.
    pub(crate) fn rename_member(&mut self, container: &str, name: &str) {
        for endpoint in self.endpoints(container) {
            let settings = &self.containers[container].doc["NetworkSettings"]["Networks"][&endpoint];
            let network = settings["NetworkID"].as_str().unwrap_or_default().to_owned();
            if let Some(member) =
                self.networks.get_mut(&network).and_then(|found| found.doc["Containers"].get_mut(container))
            {
                member["Name"] = name.into();
            }
        }
    }

    /// The names of a container's endpoints.
    pub(crate) fn endpoints(&self, container: &str) -> Vec<String> {
        let all = self.containers[container].doc["NetworkSettings"]["Networks"].as_object();
        all.into_iter().flat_map(Map::keys).cloned().collect()
    }
}

/// An endpoint that is tied to nothing yet, with what a request sets of it.
pub(crate) fn blank_endpoint(sent: &Value) -> Value {
    static BLANK: LazyLock<Value> = LazyLock::new(|| template(include_str!("../templates/endpoint.json")));
    let mut endpoint = BLANK.clone();
    for key in ["IPAMConfig", "Links", "Aliases", "DriverOpts"] {
        endpoint[key] = sent[key].clone();
    }
    endpoint
}

pub(crate) fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

pub(crate) fn create(state: &mut State, body: &Value) -> Outcome {
    let name = body["Name"].as_str().unwrap_or_default();
    if name.trim().is_empty() {
        return refuse(500, format!("invalid name: {name}"));
    }
    if is_predefined(name) || name == "default" {
        return refuse(403, format!("operation is not permitted on predefined {name} network "));
    }
    let checked = body["CheckDuplicate"] == true || state.options.api_at_least(44);
    let namesake = state.network_names.get(name).and_then(|ids| ids.first());
    if checked && state.options.check_duplicate_networks && namesake.is_some() {
        return refuse(409, format!("network with name {name} already exists"));
    }
    let warning =
        namesake.map_or_else(String::new, |id| format!("Network with name {name} (id : {id}) already exists"));
    let mut pools = Vec::new();
    let mut config = body["IPAM"]["Config"].clone();
    for entry in config.as_array().into_iter().flatten() {
        let subnet = entry["Subnet"].as_str().unwrap_or_default();
        if subnet.contains(':') {
            continue;
        }
        match Pool::parse(subnet, entry["Gateway"].as_str()) {
            Some(pool) => pools.push(pool),
            None => {
                return refuse(400, format!("invalid subnet {subnet} : invalid CIDR block notation"));
            }
        }
    }
    let is_free = |pool: &Pool| state.is_free(pool);
    if !pools.iter().all(is_free) {
        let prefix = if state.options.api_at_least(47) { "invalid pool request: " } else { "" };
        return refuse(403, format!("{prefix}Pool overlaps with other one on this address space"));
    }
    if config.as_array().is_none_or(Vec::is_empty) {
        let Some(pool) = default_pools().find(is_free) else {
            return refuse(
                404,
                "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
            );
        };
        config = json!([{"Subnet": pool.subnet(), "Gateway": Ipv4Addr::from(pool.gateway).to_string()}]);
        pools.push(pool);
    }
    let id = state.insert_network(name, body, &config, pools);
    state.changed = true;
    state.network_event(&id, "create", None);
    json_answer(201, &json!({"Id": id, "Warning": warning}))
}

pub(crate) fn inspect(state: &State, term: &str) -> Outcome {
    json_answer(200, &state.networks[&state.find_network(term)?].doc)
}

pub(crate) fn list(state: &State, call: &Call) -> Outcome {
    let filters = routes::filters(call)?;
    if let Some(unknown) = filters.keys().find(|key| !matches!(key.as_str(), "name" | "id" | "label" | "driver")) {
        return refuse(400, format!("Invalid filter '{unknown}'"));
    }
    let contains = |key: &str, field: &Value| {
        filters.get(key).is_none_or(|terms| {
            terms.iter().any(|term| field.as_str().is_some_and(|text| text.contains(term.as_str())))
        })
    };
    let wanted = |doc: &&Value| {
        contains("name", &doc["Name"])
            && contains("id", &doc["Id"])
            && contains("driver", &doc["Driver"])
            && filters.get("label").is_none_or(|labels| routes::has_labels(&doc["Labels"], labels))
    };
    // A list tells no members.
    let none = json!({});
    let without_members = |doc| With { doc, key: "Containers", value: &none };
    let found: Vec<With> = state.networks().filter(wanted).map(without_members).collect();
    json_answer(200, &found)
}

pub(crate) fn remove(state: &mut State, term: &str) -> Outcome {
    let id = state.find_network(term)?;
    let doc = &state.networks[&id].doc;
    let name = doc["Name"].as_str().unwrap_or_default().to_owned();
    if is_predefined(&name) {
        return refuse(403, format!("{name} is a pre-defined network and cannot be removed"));
    }
    if doc["Containers"].as_object().is_some_and(|members| !members.is_empty()) {
        return refuse(403, format!("error while removing network: network {name} id {id} has active endpoints"));
    }
    state.network_event(&id, "destroy", None);
    let gone = state.networks.remove(&id);
    for pool in gone.iter().flat_map(|network| &network.pools) {
        state.pools.remove(&pool.first);
    }
    if let Some(ids) = state.network_names.get_mut(&name) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            state.network_names.remove(&name);
        }
    }
    state.changed = true;
    Ok(Answer::Empty(204))
}

pub(crate) fn connect(state: &mut State, term: &str, body: &Value) -> Outcome {
    let network = state.find_network(term)?;
    let id = state.find_container(body["Container"].as_str().unwrap_or_default())?;
    if state.is_held(&id) {
        return Ok(Answer::Stuck);
    }
    let name = state.networks[&network].doc["Name"].as_str().unwrap_or_default().to_owned();
    let doc = &state.containers[&id].doc;
    let container = doc["Name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    let endpoints = &doc["NetworkSettings"]["Networks"];
    let running = doc["State"]["Running"] == true;
    if name == "host" || endpoints.get("host").is_some() {
        return refuse(
            403,
            "container sharing network namespace with another container or host cannot be connected to any other network",
        );
    }
    if endpoints.get("none").is_some() {
        return refuse(
            400,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        );
    }
    if running && endpoints.get(&name).is_some() {
        return refuse(403, format!("endpoint with name {container} already exists in network {name}"));
    }
    let mut endpoint = blank_endpoint(&body["EndpointConfig"]);
    if !running && !is_predefined(&name) {
        let mut aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        aliases.push(id[..12].into());
        endpoint["Aliases"] = aliases.into();
    }
    let doc = &mut state.containers.get_mut(&id).expect("it was found above").doc;
    doc["NetworkSettings"]["Networks"][&name] = endpoint;
    if running && let Err(refusal) = state.attach(&id, &name, &network) {
        drop_endpoint(state, &id, &name);
        return Err(refusal);
    }
    state.changed = true;
    Ok(Answer::Empty(200))
}

pub(crate) fn disconnect(state: &mut State, term: &str, body: &Value) -> Outcome {
    let network = state.find_network(term)?;
    let id = state.find_container(body["Container"].as_str().unwrap_or_default())?;
    if state.is_held(&id) {
        return Ok(Answer::Stuck);
    }
    let name = state.networks[&network].doc["Name"].as_str().unwrap_or_default().to_owned();
    let doc = &state.containers[&id].doc;
    if doc["NetworkSettings"]["Networks"].get(&name).is_none() {
        let the = if doc["State"]["Running"] == true { "" } else { "the " };
        return refuse(500, format!("container {id} is not connected to {the}network {name}"));
    }
    if doc["State"]["Running"] == true {
        state.detach(&id, &name);
    }
    drop_endpoint(state, &id, &name);
    state.changed = true;
    state.network_event(&network, "disconnect", Some(&id));
    Ok(Answer::Empty(200))
}

fn drop_endpoint(state: &mut State, container: &str, endpoint: &str) {
    let doc = &mut state.containers.get_mut(container).expect("the caller found it").doc;
    if let Some(endpoints) = doc["NetworkSettings"]["Networks"].as_object_mut() {
        endpoints.remove(endpoint);
    }
}
