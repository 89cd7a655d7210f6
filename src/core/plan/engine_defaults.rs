//! The engine's share of a container or network: what `daemon.json` adds to what is sent, as distinct from what somebody changed.

use super::daemon_settings;
use crate::model::{Container, ENGINE_LABEL, EngineDefaults, Network, Pairs, observed::ObservedContainer};

/// The limits that each container is sent; the engine adds its own of all other names.
pub(super) const SENT_ULIMITS: [&str; 2] = ["core", "nofile"];

/// The log options that each container is sent.
pub(super) const SENT_LOG_OPTIONS: [&str; 2] = ["max-file", "max-size"];

/// Takes what an engine adds from a container of which it is certain that nobody changed it: one that was just made and never
/// started.
pub fn learn(known: &mut EngineDefaults, made: &Container) {
    known.ulimits = ulimits(made);
    known.log_options = without(&made.log_options, |name, _| SENT_LOG_OPTIONS.contains(&name));
}

/// Takes what an engine adds from a network that was just made.
pub fn learn_network(known: &mut EngineDefaults, sent: &Network, made: &Network) {
    known.network_options = without(&made.options, |name, _| sent.options.get(name).is_some());
}

/// A container that shows other limits beside those that are sent than the engine is known to add: either its configuration
/// changed, or somebody made this one.
pub fn unexplained<'a>(
    known: &EngineDefaults,
    containers: impl IntoIterator<Item = &'a ObservedContainer>,
) -> Option<&'a Container> {
    containers.into_iter().filter_map(|one| one.spec.as_deref()).find(|spec| ulimits(spec) != known.ulimits)
}

/// A container as it is sent: with the label that lists the options that the engine is going to add.
///
/// An image may stem from a container of ours and bring that label: then it is sent even if it is empty.
pub fn label_container(spec: &Container, known: &EngineDefaults) -> Container {
    let mut spec = spec.clone();
    label(&mut spec.labels, &known.log_options);
    spec
}

/// A network as it is sent.
pub fn label_network(spec: &Network, known: &EngineDefaults) -> Network {
    let mut spec = spec.clone();
    label(&mut spec.labels, &known.network_options);
    spec
}

/// A declared container with the engine's share in the one that is observed.
pub fn with_share(declared: &Container, actual: &Container, known: &EngineDefaults) -> Container {
    let mut declared = declared.clone();
    declared.ulimits.extend(known.ulimits.iter().cloned());
    declared.ulimits.sort();
    fill_in(&mut declared.log_options, &labelled(&actual.labels));
    copy_label(&actual.labels, &mut declared.labels);
    declared
}

/// A declared network with the engine's share in the one that is observed. What weakens it is nobody's share, whatever its
/// label says.
pub fn network_with_share(declared: &Network, actual: &Network) -> Network {
    let mut declared = declared.clone();
    fill_in(&mut declared.options, &without(&labelled(&actual.labels), is_weakening));
    copy_label(&actual.labels, &mut declared.labels);
    declared
}

/// The limits of a container beside those that it was sent.
fn ulimits(container: &Container) -> Vec<String> {
    let is_sent = |limit: &&String| SENT_ULIMITS.contains(&limit.split('=').next().unwrap_or_default());
    container.ulimits.iter().filter(|limit| !is_sent(limit)).cloned().collect()
}

fn without(pairs: &Pairs, is_excluded: impl Fn(&str, &str) -> bool) -> Pairs {
    pairs.iter().filter(|(name, value)| !is_excluded(name, value)).cloned().collect()
}

fn is_weakening(name: &str, value: &str) -> bool {
    daemon_settings::weakening_option(name, value).is_some()
}

fn label(labels: &mut Pairs, options: &Pairs) {
    if !options.is_empty() {
        labels.insert(ENGINE_LABEL.to_owned(), serde_json::to_string(options).unwrap_or_default());
    } else if labels.get(ENGINE_LABEL).is_some() {
        labels.insert(ENGINE_LABEL.to_owned(), String::new());
    }
}

/// The options that a label lists. One that cannot be read lists none.
fn labelled(labels: &Pairs) -> Pairs {
    labels.get(ENGINE_LABEL).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn fill_in(sent: &mut Pairs, added: &Pairs) {
    for (name, value) in added {
        if sent.get(name).is_none() {
            sent.insert(name.clone(), value.clone());
        }
    }
}

/// The label is about the engine, and is no part of what is declared.
fn copy_label(from: &Pairs, to: &mut Pairs) {
    match from.get(ENGINE_LABEL) {
        Some(text) => to.insert(ENGINE_LABEL.to_owned(), text.clone()),
        None => to.remove(ENGINE_LABEL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(entries: &[(&str, &str)]) -> Pairs {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn sent() -> Container {
        Container {
            ulimits: vec!["core=0:0".to_owned(), "nofile=1024:1024".to_owned()],
            log_options: pairs(&[("max-file", "3"), ("max-size", "10")]),
            ..Container::default()
        }
    }

    #[test]
    fn what_a_new_container_has_beyond_what_was_sent_is_the_engines_share_of_it_and_nothing_else() {
        let mut made = sent();
        made.ulimits.push("nproc=4096:4096".to_owned());
        made.log_options.insert("compress".to_owned(), "true".to_owned());
        let mut known = EngineDefaults::default();
        learn(&mut known, &made);
        assert_eq!(known.ulimits, ["nproc=4096:4096"]);
        assert_eq!(known.log_options, pairs(&[("compress", "true")]));

        // It is labelled, made again and is then as declared.
        made.labels = label_container(&sent(), &known).labels;
        assert_eq!(with_share(&sent(), &made, &known), made);
        // Without the label, as in one that somebody made, the options are nobody's.
        made.labels = Pairs::default();
        assert_ne!(with_share(&sent(), &made, &known).log_options, made.log_options);
        // Limits are shown in each, whenever it was made.
        assert_eq!(with_share(&sent(), &made, &known).ulimits, made.ulimits);
        // A value that is sent stays the one that is declared.
        let bound = pairs(&[("max-size", "-1")]);
        made.labels.insert(ENGINE_LABEL.to_owned(), serde_json::to_string(&bound).unwrap());
        assert_eq!(with_share(&sent(), &made, &known).log_options, sent().log_options);
    }

    #[test]
    fn a_label_that_an_image_brings_is_overwritten() {
        let mut spec = sent();
        spec.labels.insert(ENGINE_LABEL.to_owned(), r#"{"tag":"x"}"#.to_owned());
        let spec = label_container(&spec, &EngineDefaults::default());
        assert_eq!(labelled(&spec.labels), Pairs::default());
        assert_eq!(spec.labels.get(ENGINE_LABEL).map(String::as_str), Some(""));
    }

    #[test]
    fn more_and_fewer_limits_than_are_known_are_both_unexplained() {
        let known = EngineDefaults { ulimits: vec!["nproc=1:1".to_owned()], ..EngineDefaults::default() };
        let with = |limits: &[&str]| {
            let spec = Container { ulimits: limits.iter().map(|&limit| limit.to_owned()).collect(), ..sent() };
            [ObservedContainer { spec: Some(Box::new(spec)), ..ObservedContainer::default() }]
        };
        assert!(unexplained(&known, &with(&["core=0:0", "nproc=1:1"])).is_none());
        for limits in [&["core=0:0"][..], &["nproc=2:2"], &["nproc=1:1", "rtprio=99:99"]] {
            assert!(unexplained(&known, &with(limits)).is_some(), "{limits:?}");
        }
    }

    #[test]
    fn networks_keep_what_the_engine_gave_them() {
        let sent = Network { options: pairs(&[("name", "td-1")]), ..Network::default() };
        let options = pairs(&[("com.docker.network.driver.mtu", "1400"), ("name", "td-1")]);
        let mut made = Network { options, ..Network::default() };
        let mut known = EngineDefaults::default();
        learn_network(&mut known, &sent, &made);
        assert_eq!(known.network_options, pairs(&[("com.docker.network.driver.mtu", "1400")]));
        assert_ne!(network_with_share(&sent, &made), made);
        made.labels = label_network(&sent, &known).labels;
        assert_eq!(network_with_share(&sent, &made), made);
        // A label that somebody wrote makes no option that opens a network one of the engine's.
        let options = pairs(&[("com.docker.network.bridge.gateway_mode_ipv4", "routed"), ("name", "td-1")]);
        let known = EngineDefaults { network_options: options.clone(), ..EngineDefaults::default() };
        let made = Network { labels: label_network(&sent, &known).labels, options, ..Network::default() };
        assert_ne!(network_with_share(&sent, &made).options, made.options);
    }
}
