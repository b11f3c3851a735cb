//! What the installation says of single clusters by name: labels and settings, from `--cluster-labels` and `--clusters-file`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use wildmatch::WildMatch;

use crate::{
    api::parse,
    cluster::{
        Overrides,
        selector::{is_key, is_value},
    },
};

/// Keys of an entry of the clusters file.
const KEYS: [&str; 8] = [
    "labels",
    "meshProvider",
    "metricsServer",
    "selectorLabels",
    "includeLabelPrefix",
    "namespaces",
    "maxConcurrent",
    "maxConcurrentPerNamespace",
];
/// Longest name of a namespace.
const LONGEST_NAMESPACE: usize = 63;

/// What is said of the clusters that a glob matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// A name or a glob.
    pub clusters: String,
    /// Labels, in addition to those of the source.
    pub labels: BTreeMap<String, String>,
    /// Settings that are different there.
    pub overrides: Overrides,
}

/// All that is said, in order: of two rules that match, the later counts where they differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Given(pub(super) Vec<Rule>);

impl Given {
    /// What is said of one cluster.
    pub(super) fn on(&self, name: &str) -> (BTreeMap<String, String>, Overrides) {
        let mut labels = BTreeMap::new();
        let mut overrides = Overrides::default();
        let rules = self.0.iter();
        for rule in rules.filter(|rule| WildMatch::new(&rule.clusters).matches(name)) {
            labels.extend(rule.labels.clone());
            overrides = rule.overrides.clone().or(overrides);
        }
        (labels, overrides)
    }
}

/// `prod-kr=env=production,region=kr`: the labels of a cluster.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn cluster_labels(text: &str) -> Result<Rule, String> {
    let wrong =
        || format!("{text:?} is not CLUSTER=LABELS, as in prod-kr=env=production,region=kr");
    let (clusters, labels) = text.split_once('=').ok_or_else(wrong)?;
    if clusters.is_empty() || labels.is_empty() {
        return Err(wrong());
    }
    let labels = labels.split(',').map(|pair| {
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        label(key, value)
    });
    Ok(Rule {
        clusters: clusters.to_owned(),
        labels: labels.collect::<Result<_, _>>()?,
        overrides: Overrides::default(),
    })
}

/// Reads a clusters file.
///
/// # Errors
/// Every mistake of it, each with its path.
pub fn clusters_file(text: &str) -> Result<Vec<Rule>, Vec<String>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let Pairs(entries) = serde_saphyr::from_str(text)
        .map_err(|error| vec![format!("no YAML of clusters: {error}")])?;
    let mut mistakes = Vec::new();
    let rules = entries
        .into_iter()
        .map(|(clusters, entry)| rule(clusters, &entry, &mut mistakes))
        .collect();
    if mistakes.is_empty() {
        Ok(rules)
    } else {
        Err(mistakes)
    }
}

fn rule(clusters: String, entry: &Value, mistakes: &mut Vec<String>) -> Rule {
    let path = clusters.clone();
    let mut rule = Rule {
        clusters,
        ..Rule::default()
    };
    let Some(fields) = entry.as_object() else {
        if !entry.is_null() {
            mistakes.push(format!("{path}: is not a map of {}", KEYS.join(", ")));
        }
        return rule;
    };
    for (key, value) in fields {
        let done = match key.as_str() {
            "labels" => labels(value).map(|labels| rule.labels = labels),
            "meshProvider" => text(value)
                .and_then(mesh_provider)
                .map(|one| rule.overrides.mesh_provider = Some(one)),
            "metricsServer" => text(value)
                .and_then(metrics_server)
                .map(|one| rule.overrides.metrics_server = Some(one)),
            "selectorLabels" => texts(value)
                .and_then(selector_labels)
                .map(|all| rule.overrides.selector_labels = Some(all)),
            "includeLabelPrefix" => texts(value)
                .and_then(label_prefixes)
                .map(|all| rule.overrides.include_label_prefix = Some(all)),
            "namespaces" => texts(value)
                .and_then(namespaces)
                .map(|all| rule.overrides.namespaces = Some(all)),
            "maxConcurrent" => number(value).map(|most| rule.overrides.max_concurrent = Some(most)),
            "maxConcurrentPerNamespace" => {
                number(value).map(|most| rule.overrides.max_concurrent_per_namespace = Some(most))
            }
            _ => Err(format!("is not known; there are {}", KEYS.join(", "))),
        };
        if let Err(why) = done {
            mistakes.push(format!("{path}.{key}: {why}"));
        }
    }
    rule
}

fn labels(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let fields = value.as_object().ok_or("is not a map of texts")?;
    let pairs = fields.iter().map(|(key, value)| {
        let value = value
            .as_str()
            .ok_or_else(|| format!("{key} is not a text; put it in quotes"))?;
        label(key, value)
    });
    pairs.collect()
}

fn label(key: &str, value: &str) -> Result<(String, String), String> {
    if !is_key(key) {
        return Err(format!("{key:?} is no label key, as in env"));
    }
    if !is_value(value) {
        return Err(format!(
            "{value:?} is no label value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        ));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "is not a text".to_owned())
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let all = value.as_array().ok_or("is not a list of texts")?;
    let all = all.iter().map(|one| text(one).map(str::to_owned));
    all.collect::<Result<_, _>>()
        .map_err(|_| "is not a list of texts".to_owned())
}

fn number(value: &Value) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| no_limit(value))
}

/// How many at the same time; 0 is without limit.
///
/// # Errors
/// It is no number.
pub fn limit(value: &str) -> Result<u32, String> {
    let number = value.trim().parse();
    number.map_err(|_| no_limit(format_args!("{value:?}")))
}

fn no_limit(value: impl fmt::Display) -> String {
    format!("{value} is not a whole number from 0, which is without limit")
}

/// A provider that is carried out.
///
/// # Errors
/// It is not.
pub fn mesh_provider(value: &str) -> Result<String, String> {
    if parse::routes_by(value) {
        Ok(value.to_owned())
    } else {
        Err(format!(
            "{value:?} is not carried out by this version; istio, gatewayapi:v1 and kubernetes are"
        ))
    }
}

/// The address of a Prometheus, without a trailing slash.
///
/// # Errors
/// It is no URL.
pub fn metrics_server(value: &str) -> Result<String, String> {
    match reqwest::Url::parse(value) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        Ok(_) | Err(_) => Err(format!(
            "{value:?} is not an http or https URL, as in http://prometheus.istio-system:9090"
        )),
    }
}

/// The address of a receiver of events. It may be a secret as a whole: no text holds it.
///
/// # Errors
/// It is no URL, or has credentials in it, which would not be sent.
pub fn event_webhook(value: &str) -> Result<String, String> {
    let fits = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    match reqwest::Url::parse(value) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Err("has a user name or password in it, which would not be sent".to_owned())
        }
        Ok(url) if fits(&url) => Ok(value.to_owned()),
        Ok(_) | Err(_) => {
            Err("is not an http or https URL, as in http://event-receiver.monitoring/".to_owned())
        }
    }
}

/// Labels that tell a target's pods, at least one.
///
/// # Errors
/// There is none, or one is no label.
pub fn selector_labels(values: Vec<String>) -> Result<Vec<String>, String> {
    if values.is_empty() {
        return Err("is empty; name a label, as in app".to_owned());
    }
    match values.iter().find(|value| !is_key(value)) {
        Some(wrong) => Err(format!(
            "{wrong:?} is no label key, as in app.kubernetes.io/name"
        )),
        None => Ok(values),
    }
}

/// Beginnings of labels; `*` is all of them.
///
/// # Errors
/// One is empty or has a space in it.
pub fn label_prefixes(values: Vec<String>) -> Result<Vec<String>, String> {
    let wrong = |value: &&String| value.is_empty() || value.contains(char::is_whitespace);
    match values.iter().find(wrong) {
        Some(wrong) => Err(format!(
            "{wrong:?} is no beginning of a label, as in team.example.com/, or * for all"
        )),
        None => Ok(values),
    }
}

/// Names of namespaces.
///
/// # Errors
/// One is none.
pub fn namespaces(values: Vec<String>) -> Result<Vec<String>, String> {
    match values.iter().find(|value| !is_namespace(value)) {
        Some(wrong) => Err(no_namespace(wrong)),
        None => Ok(values),
    }
}

/// The name of a namespace.
///
/// # Errors
/// It is none.
pub fn namespace(value: &str) -> Result<String, String> {
    if is_namespace(value) {
        Ok(value.to_owned())
    } else {
        Err(no_namespace(value))
    }
}

fn no_namespace(value: &str) -> String {
    format!(
        "{value:?} is not the name of a namespace: at most {LONGEST_NAMESPACE} lower-case letters, digits and dashes"
    )
}

fn is_namespace(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges =
        value.bytes().next().is_some_and(inner) && value.bytes().next_back().is_some_and(inner);
    edges
        && value.len() <= LONGEST_NAMESPACE
        && value.bytes().all(|byte| inner(byte) || byte == b'-')
}

/// A map in the order of the file.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from the names of clusters, or globs")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_said_of_a_cluster_adds_up_and_the_later_counts() {
        let rules = clusters_file(
            r#"
prod-*:
  labels: {env: production, tier: "1"}
  metricsServer: http://thanos.monitoring:9090/
  namespaces: [ai-platform]
# A glob before its exception: the order of the file counts, not that of the alphabet.
prod-kr:
  labels: {region: kr, tier: "2"}
  meshProvider: istio
  selectorLabels: [app.kubernetes.io/name]
  includeLabelPrefix: [team.example.com/, "*"]
  namespaces: []
  maxConcurrent: 3
  maxConcurrentPerNamespace: 0
lab-*:
"#,
        )
        .unwrap();
        let mut given = Given(rules);
        given
            .0
            .push(cluster_labels("*-kr=region=korea,zone=").unwrap());
        assert_eq!(
            given.on("prod-kr"),
            (
                strings(&[
                    ("env", "production"),
                    ("region", "korea"),
                    ("tier", "2"),
                    ("zone", "")
                ]),
                Overrides {
                    mesh_provider: Some("istio".to_owned()),
                    metrics_server: Some("http://thanos.monitoring:9090".to_owned()),
                    selector_labels: Some(vec!["app.kubernetes.io/name".to_owned()]),
                    include_label_prefix: Some(vec![
                        "team.example.com/".to_owned(),
                        "*".to_owned()
                    ]),
                    namespaces: Some(Vec::new()),
                    max_concurrent: Some(3),
                    max_concurrent_per_namespace: Some(0),
                }
            )
        );
        assert_eq!(
            given.on("prod-jp").1.namespaces,
            Some(vec!["ai-platform".to_owned()])
        );
        assert_eq!(given.on("staging"), (BTreeMap::new(), Overrides::default()));
    }

    #[test]
    fn every_mistake_of_the_file_has_its_path() {
        let mistakes = clusters_file(
            r#"
prod-*:
  label: {env: production}
  labels: {env: 5, "a b": c}
  meshProvider: linkerd
  metricsServer: prometheus:9090
  selectorLabels: []
  includeLabelPrefix: team
  namespaces: [Prod]
  maxConcurrent: "3"
  maxConcurrentPerNamespace: -1
staging: yes please
"#,
        )
        .unwrap_err();
        assert_eq!(
            mistakes,
            [
                "prod-*.includeLabelPrefix: is not a list of texts",
                "prod-*.label: is not known; there are labels, meshProvider, metricsServer, selectorLabels, includeLabelPrefix, namespaces, maxConcurrent, maxConcurrentPerNamespace",
                "prod-*.labels: \"a b\" is no label key, as in env",
                "prod-*.maxConcurrent: \"3\" is not a whole number from 0, which is without limit",
                "prod-*.maxConcurrentPerNamespace: -1 is not a whole number from 0, which is without limit",
                "prod-*.meshProvider: \"linkerd\" is not carried out by this version; istio, gatewayapi:v1 and kubernetes are",
                "prod-*.metricsServer: \"prometheus:9090\" is not an http or https URL, as in http://prometheus.istio-system:9090",
                "prod-*.namespaces: \"Prod\" is not the name of a namespace: at most 63 lower-case letters, digits and dashes",
                "prod-*.selectorLabels: is empty; name a label, as in app",
                "staging: is not a map of labels, meshProvider, metricsServer, selectorLabels, includeLabelPrefix, namespaces, maxConcurrent, maxConcurrentPerNamespace",
            ]
        );
        assert_eq!(clusters_file("# nothing\n"), Ok(Vec::new()));
        assert!(clusters_file("[a]").unwrap_err()[0].starts_with("no YAML of clusters: "));
    }

    #[test]
    fn labels_of_the_command_line() {
        let wrong = "is not CLUSTER=LABELS, as in prod-kr=env=production,region=kr";
        for text in ["prod-kr", "prod-kr=", "=env=production", "prod-kr=env"] {
            assert_eq!(cluster_labels(text), Err(format!("{text:?} {wrong}")));
        }
        assert_eq!(
            cluster_labels("a=b c=d").unwrap_err(),
            "\"b c\" is no label key, as in env"
        );
    }
}
