//! `list_clusters`.

use rmcp::{
    Json,
    handler::server::wrapper::Parameters,
    {tool, tool_router},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    api::view::ClusterRow,
    mcp::{McpServer, error::ToolError, words::sentence},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct ListClustersArgs {
    /// Kubernetes label selector, as in env=production,region in (kr, jp)
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

fn listed(clusters: Vec<ClusterRow>, selected: bool) -> ClusterList {
    let names: Vec<&str> = clusters
        .iter()
        .map(|cluster| cluster.name.as_str())
        .collect();
    let lost = clusters.iter().filter(|cluster| !cluster.reachable).count();
    let idle = clusters
        .iter()
        .filter(|cluster| cluster.reachable && cluster.led_by.is_none())
        .count();
    let mut parts = vec![if names.is_empty() {
        "no cluster matches".to_owned()
    } else {
        let clusters = if names.len() == 1 {
            "cluster"
        } else {
            "clusters"
        };
        format!("{} {clusters}: {}", names.len(), names.join(", "))
    }];
    if lost > 0 {
        parts.push(format!("{lost} unreachable"));
    }
    if idle > 0 {
        parts.push(format!(
            "{idle} led by nobody, so nothing can be started there"
        ));
    }
    let summary = sentence(&parts.join("; "));
    let next = if !names.is_empty() {
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
            installed: Vec::new(),
            prometheus: None,
            canaries: BTreeMap::new(),
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
            "3 clusters: prod-kr, prod-jp, staging; 1 unreachable; 1 led by nobody, so nothing can be started there."
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
