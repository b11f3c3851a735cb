//! One row of `list_clusters`: everything about a cluster that one can find out in a moment.

use std::{collections::BTreeMap, time::Duration};

use futures::future::{FutureExt, join_all};

use super::{
    ask,
    control::{Inner, LEASE},
    lead, leading, objects,
    turns::Limit,
};
use crate::{
    api::{
        dry_run::DryRun,
        objects::{Object, ObjectExt},
        status,
        view::{ANSWERS, ClusterRow},
    },
    cluster::{Cluster, Error, ErrorKind, LeaseView, registry::Entry},
    decide::state::Phase,
};

/// Longest that an answer over many clusters may take to gather, from the call on, whoever hangs.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Longest that Prometheus may take.
const PROMETHEUS_PATIENCE: Duration = Duration::from_millis(800);
/// Kubernetes 1.x below this is not supported.
const OLDEST_MINOR: u32 = 23;
/// API groups worth naming, how, and the version that we read and write, if we do.
const GROUPS: [(&str, &str, Option<&str>); 5] = [
    ("flagger.app", "Flagger resources", Some("v1beta1")),
    ("networking.istio.io", "Istio", Some("v1beta1")),
    ("keda.sh", "KEDA", Some("v1alpha1")),
    ("gateway.networking.k8s.io", "Gateway API", None),
    ("argoproj.io", "Argo", None),
];

/// A row for each cluster, in their order; an unreachable one is a row with the reason.
pub(super) async fn rows(inner: &Inner, entries: &[Entry]) -> Vec<ClusterRow> {
    let limit = Limit::new(PATIENCE);
    let each = entries.iter().map(|entry| row(inner, entry, limit).boxed());
    join_all(each).await
}

async fn row(inner: &Inner, entry: &Entry, limit: Limit) -> ClusterRow {
    let why = match &entry.cluster {
        Err(why) => why.clone(),
        Ok(cluster) => match inner
            .turns
            .ask(limit, ask(inner, cluster, limit).boxed())
            .await
        {
            Some(found) => return noted(found.row(entry), entry),
            None => limit.late(),
        },
    };
    let row = ClusterRow {
        reason: Some(why),
        ..nothing_known(entry)
    };
    noted(row, entry)
}

/// The row of a usable cluster with what is odd about its entry.
fn noted(mut row: ClusterRow, entry: &Entry) -> ClusterRow {
    if let (Ok(_), Some(note)) = (&entry.cluster, &entry.note) {
        let reason = row.reason.map(|reason| format!("; {reason}"));
        row.reason = Some(format!("{note}{}", reason.unwrap_or_default()));
    }
    row
}

/// What an entry alone says.
fn nothing_known(entry: &Entry) -> ClusterRow {
    ClusterRow {
        name: entry.name.clone(),
        labels: entry.labels.clone(),
        reachable: false,
        reason: None,
        led_by: None,
        version: None,
        installed: None,
        prometheus: None,
        canaries: None,
        not_counted: None,
    }
}

/// The definition of the Canary, as far as it matters.
enum Definition {
    Keeps,
    Prunes,
    Missing,
    Unknown(String),
}

/// Who leads a cluster.
enum Leader {
    Is(String, Option<DryRun>),
    /// Nobody, and what helps.
    Nobody(String),
}

/// What one cluster has answered, each by itself: what is slow takes nothing else with it.
struct Found {
    version: Result<String, String>,
    installed: Result<Vec<(String, Vec<String>)>, String>,
    led_by: Result<Leader, String>,
    definition: Definition,
    prometheus: Result<(), String>,
    canaries: Result<Vec<Object>, String>,
}

async fn ask(inner: &Inner, cluster: &Cluster, limit: Limit) -> Found {
    let crd = lead::definition();
    let (version, installed, led_by, crd, prometheus, canaries) = futures::join!(
        limit.ask(cluster.version()),
        limit.ask(cluster.installed()),
        leader(inner, cluster, limit),
        limit.ask(cluster.get(&crd)),
        online(inner, cluster, limit),
        limit.ask(canaries(inner, cluster)),
    );
    Found {
        version,
        installed,
        led_by,
        definition: match crd {
            Ok(Some(crd)) if lead::keeps_our_fields(&crd) => Definition::Keeps,
            Ok(Some(_)) => Definition::Prunes,
            Ok(None) => Definition::Missing,
            Err(why) => Definition::Unknown(why),
        },
        prometheus,
        canaries,
    }
}

async fn leader(inner: &Inner, cluster: &Cluster, limit: Limit) -> Result<Leader, String> {
    let lease = cluster.lease_view(&inner.settings.lease_namespace, LEASE);
    Ok(match limit.ask(lease).await? {
        Some(LeaseView {
            holder: Some(holder),
            fresh: true,
            dry_run,
            ..
        }) => Leader::Is(holder, dry_run),
        lease => {
            let help = leading::help(inner, cluster, lease.as_ref()).map(Ok);
            Leader::Nobody(limit.ask(help).await.unwrap_or_else(|late| late))
        }
    })
}

impl Found {
    fn row(self, entry: &Entry) -> ClusterRow {
        let Self {
            version,
            installed,
            led_by,
            definition,
            prometheus,
            canaries,
        } = self;
        let version = match version {
            Ok(version) => with_age(version),
            Err(why) => {
                return ClusterRow {
                    reason: Some(why),
                    ..nothing_known(entry)
                };
            }
        };
        let listed = canaries.as_deref().unwrap_or_default();
        let (led_by, dry_run, nobody) = match led_by {
            Ok(Leader::Is(holder, dry_run)) => (Some(holder), dry_run, None),
            Ok(Leader::Nobody(help)) => (None, None, Some(format!("nobody leads; {help}"))),
            Err(why) => (None, None, Some(format!("who leads is not known: {why}"))),
        };
        let reason = read_only(definition, nobody)
            .or_else(|| no_rights(listed))
            .or_else(|| dry_run.map(|mode| mode.says().to_owned()));
        let (canaries, not_counted) = match canaries {
            Ok(canaries) => (Some(by_phase(&canaries)), None),
            Err(why) => (None, Some(why)),
        };
        ClusterRow {
            reachable: true,
            reason,
            led_by,
            version: Some(version),
            installed: installed.ok().map(|installed| named(&installed)),
            prometheus: Some(match prometheus {
                Ok(()) => ANSWERS.to_owned(),
                Err(why) => format!("does not answer from here: {why}"),
            }),
            canaries,
            not_counted,
            ..nothing_known(entry)
        }
    }
}

/// What keeps a cluster that answers read-only, if anything does; `nobody` says that nobody is seen to lead it.
fn read_only(definition: Definition, nobody: Option<String>) -> Option<String> {
    match (definition, nobody) {
        (Definition::Prunes, _) => Some(format!("read-only: {}", lead::PRUNES)),
        (Definition::Missing, _) => {
            Some("no Canary CRD; run: canary-mcp crds | kubectl apply -f -".to_owned())
        }
        // Whoever leads has looked at the definition, and may have rights that we have not.
        (Definition::Keeps | Definition::Unknown(_), None) => None,
        (Definition::Unknown(why), Some(_)) => Some(why),
        (Definition::Keeps, nobody) => nobody,
    }
}

/// Whether Prometheus answers from here.
async fn online(inner: &Inner, cluster: &Cluster, limit: Limit) -> Result<(), String> {
    let limit = limit.shorter(PROMETHEUS_PATIENCE);
    let settings = inner.settings.on(cluster);
    let asked = ask::online(cluster, &settings, &inner.direct).map(Ok);
    limit.ask(asked).await.flatten()
}

/// The Canaries; none where the kind is not installed.
async fn canaries(inner: &Inner, cluster: &Cluster) -> Result<Vec<Object>, Error> {
    let settings = inner.settings.on(cluster);
    match objects::canaries(cluster, &settings, None).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

fn by_phase(canaries: &[Object]) -> BTreeMap<String, i64> {
    let mut phases = BTreeMap::new();
    for canary in canaries {
        let phase = canary.str_at("/status/phase");
        let phase = phase.unwrap_or(Phase::Initializing.name()).to_owned();
        *phases.entry(phase).or_default() += 1;
    }
    phases
}

/// Whoever leads has found rights missing and said so; nobody else knows that engine's rights.
fn no_rights(canaries: &[Object]) -> Option<String> {
    let missing = canaries.iter().find_map(|c| status::missing_rights(c));
    missing.map(|missing| format!("no run begins, {missing}"))
}

/// `v1.22.3` -> `v1.22.3 (too old for canary-mcp: 1.23 or newer is supported)`.
fn with_age(version: String) -> String {
    let minor: Option<u32> = version
        .trim_start_matches('v')
        .split('.')
        .nth(1)
        .and_then(|m| m.parse().ok());
    match minor {
        Some(minor)
            if minor < OLDEST_MINOR && version.trim_start_matches('v').starts_with("1.") =>
        {
            format!("{version} (too old for canary-mcp: 1.{OLDEST_MINOR} or newer is supported)")
        }
        _ => version,
    }
}

/// What is installed, in a person's words; a group without the version that we need is told as too old.
fn named(installed: &[(String, Vec<String>)]) -> Vec<String> {
    let one = |(group, name, needed): &(&str, &str, Option<&str>)| {
        let (_, versions) = installed.iter().find(|(g, _)| g == group)?;
        let served = format!("{name} ({group} {})", versions.join(", "));
        Some(match needed.filter(|n| !versions.iter().any(|v| v == n)) {
            Some(needed) => format!("{served}: too old for canary-mcp, which needs {needed}"),
            None => served,
        })
    };
    GROUPS.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{named, with_age};

    #[test]
    fn what_is_installed_is_named_with_what_is_missing() {
        let group = |name: &str, versions: &[&str]| {
            (
                name.to_owned(),
                versions.iter().map(|v| (*v).to_owned()).collect(),
            )
        };
        let installed = [
            group("keda.sh", &["v1alpha1"]),
            group("networking.istio.io", &["v1alpha3"]),
            group("example.com", &["v1"]),
        ];
        assert_eq!(
            named(&installed),
            [
                "Istio (networking.istio.io v1alpha3): too old for canary-mcp, which needs v1beta1",
                "KEDA (keda.sh v1alpha1)",
            ]
        );
    }

    #[test]
    fn old_versions_are_told() {
        assert_eq!(with_age("v1.33.1".into()), "v1.33.1");
        assert_eq!(with_age("v1.23.0".into()), "v1.23.0");
        assert_eq!(
            with_age("v1.20.2".into()),
            "v1.20.2 (too old for canary-mcp: 1.23 or newer is supported)"
        );
        assert_eq!(with_age("v2.1.0".into()), "v2.1.0");
    }
}
