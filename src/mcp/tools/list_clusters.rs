//! `list_clusters`.

use rmcp::{
    Json,
    handler::server::wrapper::Parameters,
    {tool, tool_router},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::view::{ANSWERS, ClusterRow},
    mcp::{McpServer, error::ToolError, words::sentence},
};

/// A list of more rows is told in short: what each cluster has installed would be too much for a conversation.
const LONG: usize = 25;
/// Characters of all rows together; what does not fit is counted only. Assistants put an answer of more than 50,000 aside.
const ROOM: usize = 47_000;
/// Clusters that the summary names one by one.
const NAMED: usize = 30;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct ListClustersArgs {
    /// Kubernetes label selector, as in env=production,region in (kr, jp). More than 25 clusters are listed in short, of more than some 200 not all
    selector: Option<String>,
}

/// The clusters.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp) struct ClusterList {
    clusters: Vec<ClusterRow>,
    /// One sentence for the person
    summary: String,
    /// What to call now
    next: String,
}

#[tool_router(router = list_clusters_router, vis = "pub(in crate::mcp)")]
impl McpServer {
    /// Lists the clusters: labels, whether each is reachable and why not, who leads it, versions, what is installed, whether Prometheus answers, canaries by phase.
    #[tool(
        title = "List clusters",
        annotations(
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn list_clusters(
        &self,
        Parameters(args): Parameters<ListClustersArgs>,
    ) -> Result<Json<ClusterList>, ToolError> {
        let ListClustersArgs { selector } = args;
        let clusters = self.control.clusters(selector.as_deref()).await?;
        Ok(Json(listed(clusters, selector.is_some())))
    }
}

fn listed(mut clusters: Vec<ClusterRow>, selected: bool) -> ClusterList {
    let count = clusters.len();
    let names = |which: &dyn Fn(&ClusterRow) -> bool| -> Vec<String> {
        let those = clusters.iter().filter(|cluster| which(cluster));
        those.map(|cluster| cluster.name.clone()).collect()
    };
    let all = names(&|_| true);
    let lost = names(&|cluster| !cluster.reachable);
    let idle = names(&|cluster| cluster.reachable && cluster.led_by.is_none()).len();
    let mut parts = vec![match count {
        0 => "no cluster matches".to_owned(),
        1 => format!("1 cluster: {}", enumerated(&all)),
        2..=LONG => format!("{count} clusters: {}", enumerated(&all)),
        _ => format!("{count} clusters"),
    }];
    if !lost.is_empty() {
        parts.push(format!("{} unreachable: {}", lost.len(), enumerated(&lost)));
    }
    if idle > 0 {
        parts.push(format!(
            "{idle} led by nobody, so nothing can be started there"
        ));
    }
    if count > LONG {
        clusters.iter_mut().for_each(shorten);
        parts.push("the rows are short, select fewer to see more of each".to_owned());
    }
    if fitting(&clusters) < count {
        // What does not answer must not be what is left out.
        clusters.sort_by_key(|cluster| cluster.reachable);
        let fit = fitting(&clusters);
        clusters.truncate(fit);
        parts.push(format!("{fit} are shown, first those that do not answer"));
    }
    let summary = sentence(&parts.join("; "));
    let next = if count > LONG {
        "call list_clusters with a selector to see some in full, or get_status with one of these clusters"
    } else if count > 0 {
        "call get_status to see the rollouts, or start_canary with one of these clusters"
    } else if selected {
        "call list_clusters without selector"
    } else {
        "give the server clusters: --embedded or --kubeconfig PATH"
    };
    ClusterList {
        clusters,
        summary,
        next: next.to_owned(),
    }
}

/// `a, b and 3 more`.
fn enumerated(names: &[String]) -> String {
    match names.split_at_checked(NAMED) {
        Some((first, rest)) if !rest.is_empty() => {
            format!("{} and {} more", first.join(", "), rest.len())
        }
        _ => names.join(", "),
    }
}

/// How many of the rows there is room for.
fn fitting(clusters: &[ClusterRow]) -> usize {
    let sizes = clusters
        .iter()
        .map(|row| serde_json::to_string(row).map_or(0, |text| text.len() + 1));
    let ends = sizes.scan(0, |end, size| {
        *end += size;
        Some(*end)
    });
    ends.take_while(|end| *end <= ROOM).count()
}

/// Leaves out what is the same for most clusters, and of the leader's name what only tells one process of a pod from the next.
fn shorten(cluster: &mut ClusterRow) {
    if let Some((host, _)) = cluster.led_by.as_deref().and_then(|l| l.rsplit_once('_')) {
        cluster.led_by = Some(host.to_owned());
    }
    cluster.version = None;
    cluster.installed = None;
    if cluster.prometheus.as_deref() == Some(ANSWERS) {
        cluster.prometheus = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn cluster(name: &str, reachable: bool, led_by: Option<&str>) -> ClusterRow {
        ClusterRow {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            reachable,
            reason: None,
            led_by: led_by.map(str::to_owned),
            version: None,
            installed: None,
            prometheus: None,
            canaries: None,
            not_counted: None,
        }
    }

    #[test]
    fn the_summary_says_what_keeps_one_from_starting() {
        let list = listed(
            vec![
                cluster("prod-kr", true, Some("me")),
                cluster("prod-jp", true, None),
                cluster("staging", false, None),
            ],
            false,
        );
        assert_eq!(
            list.summary,
            "3 clusters: prod-kr, prod-jp, staging; 1 unreachable: staging; 1 led by nobody, so nothing can be started there."
        );
        assert_eq!(
            list.next,
            "call get_status to see the rollouts, or start_canary with one of these clusters"
        );
        let none = listed(Vec::new(), true);
        assert_eq!(none.summary, "no cluster matches.");
        assert_eq!(none.next, "call list_clusters without selector");
    }

    /// As real as a row can be.
    fn real(n: usize) -> ClusterRow {
        let down = n.is_multiple_of(10);
        let labels = [
            ("env", "production"),
            ("region", "ap-northeast-2"),
            ("team", "platform"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let known = ClusterRow {
            labels: BTreeMap::from(labels),
            ..cluster(&format!("production-{n:03}"), !down, None)
        };
        if down {
            return ClusterRow {
                reason: Some(
                    "cannot get its version in cluster production-010: the API server does not answer: the call failed: client error (Connect): deadline has elapsed"
                        .to_owned(),
                ),
                ..known
            };
        }
        ClusterRow {
            led_by: Some(
                "canary-mcp-engine-5d4f8b7c9-x2lkq_6f1d2a34-5b6c-4d7e-8f90-a1b2c3d4e5f6".to_owned(),
            ),
            version: Some("v1.33.1".to_owned()),
            installed: Some(vec![
                "Flagger resources (flagger.app v1beta1)".to_owned(),
                "Istio (networking.istio.io v1, v1beta1, v1alpha3)".to_owned(),
                "KEDA (keda.sh v1alpha1)".to_owned(),
            ]),
            prometheus: Some("answers".to_owned()),
            canaries: Some(BTreeMap::from([
                ("Initialized".to_owned(), 2),
                ("Succeeded".to_owned(), 3),
            ])),
            ..known
        }
    }

    #[test]
    fn two_hundred_clusters_fit_into_one_answer() {
        let list = listed((1..=200).map(real).collect(), false);
        assert_eq!(list.clusters.len(), 200);
        assert_eq!(
            serde_json::to_value(&list.clusters[0]).unwrap(),
            serde_json::json!({
                "name": "production-001",
                "labels": {"env": "production", "region": "ap-northeast-2", "team": "platform"},
                "reachable": true,
                "led_by": "canary-mcp-engine-5d4f8b7c9-x2lkq",
                "canaries": {"Initialized": 2, "Succeeded": 3},
            })
        );
        assert_eq!(
            list.summary,
            "200 clusters; 20 unreachable: production-010, production-020, production-030, production-040, production-050, production-060, \
             production-070, production-080, production-090, production-100, production-110, production-120, production-130, production-140, \
             production-150, production-160, production-170, production-180, production-190, production-200; \
             the rows are short, select fewer to see more of each."
        );
        // Assistants put what is longer than 50,000 characters, or 25,000 tokens, aside.
        let size = serde_json::to_string(&list).unwrap().len();
        assert!(size < 50_000, "{size}");
    }

    #[test]
    fn of_more_the_ones_that_do_not_answer_are_shown_first() {
        let list = listed((1..=500).map(real).collect(), false);
        assert_eq!(list.clusters.len(), 212);
        let down = list
            .clusters
            .iter()
            .take_while(|row| !row.reachable)
            .count();
        assert_eq!(down, 50);
        assert!(
            list.summary
                .starts_with("500 clusters; 50 unreachable: production-010, "),
            "{}",
            list.summary
        );
        assert!(
            list.summary.ends_with("and 20 more; the rows are short, select fewer to see more of each; 212 are shown, first those that do not answer."),
            "{}",
            list.summary
        );
        let size = serde_json::to_string(&list).unwrap().len();
        assert!(size < 50_000, "{size}");
    }
}
