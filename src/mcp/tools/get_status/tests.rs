//! What `get_status` answers: one rollout in full, or a table.

use serde_json::json;

use super::*;
use crate::{decide::state::Phase, mcp::progress::tests::rollout};

fn row(name: &str, phase: Phase) -> RolloutRow {
    RolloutRow {
        cluster: "prod-kr".to_owned(),
        namespace: "ai-platform".to_owned(),
        name: name.to_owned(),
        phase,
        weight: 0,
        failed_checks: 0,
        image: None,
        canary_image: None,
        since: None,
    }
}

#[test]
fn several_rollouts_are_a_table_that_names_what_it_lacks() {
    let table = Table {
        rows: vec![row("a", Phase::Progressing), row("b", Phase::Succeeded)],
        count: 2,
        running: 1,
        unreachable: vec!["staging: connection refused".to_owned()],
    };
    assert_eq!(
        json!(tabled(table, false)),
        json!({
            "rows": [
                {"cluster": "prod-kr", "namespace": "ai-platform", "name": "a", "phase": "Progressing", "weight": 0, "failed_checks": 0},
                {"cluster": "prod-kr", "namespace": "ai-platform", "name": "b", "phase": "Succeeded", "weight": 0, "failed_checks": 0},
            ],
            "summary": "2 rollouts, 1 of them going on. Not readable: staging: connection refused.",
            "next": "call get_status with cluster, namespace and name of a row to see it in full",
        })
    );
}

#[test]
fn nothing_and_too_much_are_said() {
    let none = tabled(Table::default(), true);
    assert_eq!(none.summary, "no rollout matches.");
    assert_eq!(none.rows, Some(Vec::new()));
    assert_eq!(
        none.next,
        "call list_clusters, or get_status with fewer arguments"
    );
    let many = tabled(
        Table {
            rows: vec![row("a", Phase::Succeeded); 100],
            count: 101,
            running: 0,
            unreachable: Vec::new(),
        },
        true,
    );
    assert_eq!(many.rows.unwrap().len(), 100);
    assert_eq!(
        many.summary,
        "101 rollouts, 0 of them going on; 100 are shown, first those that go on."
    );
    assert_eq!(
        many.next,
        "waiting needs one rollout: call get_status with cluster, namespace and name of a row"
    );
}

#[test]
fn a_wait_says_how_it_ended() {
    let view = rollout(Phase::Progressing, 10, 2);
    let now = words::sentence(&words::summary(&view));
    let wait = Duration::from_secs(50);
    for (ended, summary) in [
        (None, now.clone()),
        (Some(Ended::Reached), now.clone()),
        (Some(Ended::TimeUp), format!("no change within 50 s: {now}")),
        (
            Some(Ended::Draining),
            format!("this server is about to stop, so it did not wait: {now}"),
        ),
        (
            Some(Ended::Lost),
            format!("the Canary is gone or cannot be watched any more; last seen: {now}"),
        ),
    ] {
        let status = shown(&view, ended, wait, &[]);
        assert_eq!(status.summary, summary);
        assert_eq!(status.rollout.as_ref(), Some(&view));
        assert_eq!(status.rows, None);
    }
}
