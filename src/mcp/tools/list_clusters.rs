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
/// More rows than this are counted only. In short these are some 45,000 characters, which assistants still take in whole.
const MOST: usize = 200;
/// Clusters that the summary names one by one.
const NAMED: usize = 30;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct ListClustersArgs {
    /// Kubernetes label selector, as in env=production,region in (kr, jp). More than 25 clusters are listed in short, of more than 200 the first
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
    if count > MOST {
        // What does not answer must not be what is left out.
        clusters.sort_by_key(|cluster| cluster.reachable);
        clusters.truncate(MOST);
        parts.push(format!("{MOST} are shown, first those that do not answer"));
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

/// Leaves out what is the same for most clusters.
fn shorten(cluster: &mut ClusterRow) {
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
}
