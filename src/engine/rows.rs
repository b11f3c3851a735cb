//! One row of `list_clusters`: everything about a cluster that one can find out in a moment.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ask,
    control::{Inner, LEASE},
    lead, objects,
};
use crate::{
    api::{
        objects::{CANARY, ObjectExt},
        status,
        view::ClusterRow,
    },
    cluster::{Cluster, registry::Entry},
    decide::state::Phase,
};

/// Longest that one cluster may take.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Longest that its Prometheus may take, so that there is time left for the rest.
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

/// The row of one cluster; an unreachable one is a row with the reason.
pub(super) async fn row(inner: &Inner, entry: &Entry) -> ClusterRow {
    let mut row = ClusterRow {
        name: entry.name.clone(),
        labels: entry.labels.clone(),
        reachable: false,
        reason: None,
        led_by: None,
        version: None,
        installed: Vec::new(),
        prometheus: None,
        canaries: BTreeMap::new(),
    };
    match &entry.cluster {
        Err(why) => row.reason = Some(why.clone()),
        Ok(cluster) => {
            let filled = tokio::time::timeout(PATIENCE, fill(inner, cluster, &mut row)).await;
            if filled.is_err() && !row.reachable {
                row.reason = Some(format!("no answer within {PATIENCE:?}"));
            }
            if let Some(note) = &entry.note {
                let reason = row.reason.take().map(|reason| format!("; {reason}"));
                row.reason = Some(format!("{note}{}", reason.unwrap_or_default()));
            }
        }
    }
    row
}

async fn fill(inner: &Inner, cluster: &Cluster, row: &mut ClusterRow) {
    let crd = lead::definition();
    let (version, installed, lease, crd, prometheus) = futures::join!(
        cluster.version(),
        cluster.installed(),
        cluster.lease_view(&inner.settings.lease_namespace, LEASE),
        cluster.get(&crd),
        online(inner, cluster),
    );
    match version {
        Ok(version) => {
            row.reachable = true;
            row.version = Some(with_age(version));
        }
        Err(error) => {
            row.reason = Some(error.report());
            return;
        }
    }
    let installed = installed.unwrap_or_default();
    row.installed = named(&installed);
    row.led_by = lease
        .ok()
        .flatten()
        .filter(|l| l.fresh)
        .and_then(|l| l.holder);
    row.prometheus = Some(match prometheus {
        Ok(()) => "answers".to_owned(),
        Err(why) => format!("does not answer from here: {why}"),
    });
    row.reason = match crd {
        Ok(Some(crd)) if lead::keeps_our_fields(&crd) => None,
        Ok(Some(_)) => Some(format!("read-only: {}", lead::PRUNES)),
        Ok(None) => Some("no Canary CRD; run: canary-mcp crds | kubectl apply -f -".to_owned()),
        Err(_) => None,
    };
    if installed.iter().any(|(group, _)| group == CANARY.group) {
        count(inner, cluster, row).await;
    }
    if row.reason.is_none() && row.led_by.is_none() {
        row.reason = Some(format!(
            "nobody leads; start `canary-mcp serve` with --lead {}",
            row.name
        ));
    }
}

/// Whether Prometheus answers; a slow one must not make the cluster look unreachable.
async fn online(inner: &Inner, cluster: &Cluster) -> Result<(), String> {
    let settings = inner.settings.on(cluster);
    let asked = ask::online(cluster, &settings, &inner.direct);
    tokio::time::timeout(PROMETHEUS_PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {PROMETHEUS_PATIENCE:?}")))
}

async fn count(inner: &Inner, cluster: &Cluster, row: &mut ClusterRow) {
    let canaries = match objects::canaries(cluster, &inner.settings.on(cluster), None).await {
        Ok(canaries) => canaries,
        Err(error) => {
            row.reason.get_or_insert_with(|| error.report());
            return;
        }
    };
    // Whoever leads has found them missing and said so; nobody else knows that engine's rights.
    if let Some(missing) = canaries.iter().find_map(|c| status::missing_rights(c)) {
        row.reason
            .get_or_insert_with(|| format!("no run begins, {missing}"));
    }
    for canary in canaries {
        let phase = canary
            .str_at("/status/phase")
            .unwrap_or(Phase::Initializing.name())
            .to_owned();
        *row.canaries.entry(phase).or_default() += 1;
    }
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
