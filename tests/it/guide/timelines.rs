//! The guide's timelines as a dry run foresees them: written out, and beside the minutes that the guide gives, from which they are off by at
//! most one interval of the analysis. Pods take a minute here, as in the guide ("Phase 1: Initialization (0-1 min)").

use canary_mcp::{
    api::{
        objects::{CANARY, DEPLOYMENT},
        preview::Preview,
    },
    engine::control::{Outcome, Planned, Start},
};
use serde_json::{Value, json};

use super::{
    examples::{assert_near, foreseen},
    meaning::manifest,
};
use crate::support::{NAME, Rig, image};

/// The fleet's Canary with the pace of this analysis, its own checks and no hooks; a gate where a person approves.
fn pace(rig: &Rig, analysis: &Value, gated: bool) {
    let mut analysis = analysis.clone();
    for field in ["metrics", "webhooks", "alerts"] {
        analysis.as_object_mut().unwrap().remove(field);
    }
    analysis["metrics"] =
        json!([{"name": "request-success-rate", "interval": "1m", "thresholdRange": {"min": 99}}]);
    rig.edit_spec(|spec| spec["analysis"] = analysis.clone());
    let person = if gated { "promotion" } else { "" };
    rig.annotate(&CANARY, NAME, "canary-mcp.dev/gate", person);
}

async fn planned(rig: &Rig) -> Preview {
    let start = Start {
        key: Rig::key(),
        image: Some(image("1.1.0")),
        container: None,
        retry: false,
        expect_revision: None,
        by: Some("test".to_owned()),
    };
    let Planned { acted, preview } = rig.control.preview(&start).await.unwrap();
    assert_eq!(acted.outcome, Outcome::Planned, "{}", acted.reason);
    preview.unwrap()
}

/// A timeline.
struct Timeline {
    /// What it is of.
    name: &'static str,
    /// The analysis.
    analysis: Value,
    /// A person has to approve the promotion.
    gated: bool,
    /// Seconds of an interval: how far the guide's minutes may be off.
    interval: i64,
    /// The guide's minutes.
    guide: &'static [(i64, &'static str)],
    /// Every row, with seconds.
    rows: Vec<(i64, String)>,
}

/// Rows of growing weights: `from`, then one each `interval` seconds.
fn climb(from: i64, interval: i64, weights: &[u8]) -> Vec<(i64, String)> {
    let rows = weights.iter().zip(0..);
    rows.map(|(weight, i)| (from + i * interval, format!("Progressing {weight}%")))
        .collect()
}

fn rows(
    before: &[(i64, &str)],
    climb: &[(i64, String)],
    after: &[(i64, &str)],
) -> Vec<(i64, String)> {
    let own = |rows: &[(i64, &str)]| {
        rows.iter()
            .map(|(at, row)| (*at, (*row).to_owned()))
            .collect::<Vec<_>>()
    };
    [own(before), climb.to_vec(), own(after)].concat()
}

const TEN: [u8; 10] = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50];

/// 003:314, "Total Time: ~12 minutes"; 003:445, "Instant Switch (T=11 min)"; 003:1186, to "T=24m: Promotion to 100%".
fn of_the_strategies() -> Vec<Timeline> {
    let analysis = |name| manifest(name)["spec"]["analysis"].clone();
    vec![
        Timeline {
            name: "canary",
            analysis: analysis("canary"),
            gated: false,
            interval: 60,
            guide: &[
                (1, "Progressing 5%"),
                (2, "Progressing 10%"),
                (3, "Progressing 15%"),
                (4, "Progressing 20%"),
                (5, "Progressing 25%"),
                (6, "Progressing 30%"),
                (7, "Progressing 35%"),
                (8, "Progressing 40%"),
                (9, "Progressing 45%"),
                (10, "Progressing 50%"),
                (11, "Promoting 50%"),
                (12, "Succeeded 0%"),
            ],
            rows: rows(
                &[(0, "Progressing 0%")],
                &climb(60, 60, &TEN),
                &[
                    (660, "Promoting 50%"),
                    (720, "Finalising 0%"),
                    (730, "Succeeded 0%"),
                ],
            ),
        },
        Timeline {
            name: "blue-green",
            analysis: analysis("blue-green"),
            gated: false,
            interval: 60,
            guide: &[(1, "Progressing without users"), (11, "Progressing 100%")],
            rows: rows(
                &[
                    (0, "Progressing 0%"),
                    (60, "Progressing without users"),
                    (660, "Progressing 100%"),
                ],
                &[],
                &[
                    (720, "Promoting 100%"),
                    (780, "Finalising 0%"),
                    (790, "Succeeded 0%"),
                ],
            ),
        },
        Timeline {
            name: "payments",
            analysis: analysis("payments"),
            gated: true,
            interval: 120,
            guide: &[
                (2, "Progressing 5%"),
                (4, "Progressing 10%"),
                (6, "Progressing 15%"),
                (20, "Progressing 50%"),
                (22, "WaitingPromotion 50%"),
                (24, "Promoting 50%"),
            ],
            rows: rows(
                &[(0, "Progressing 0%")],
                &climb(60, 120, &TEN),
                &[
                    (1_260, "WaitingPromotion 50%"),
                    (1_380, "Promoting 50%"),
                    (1_440, "Finalising 0%"),
                    (1_450, "Succeeded 0%"),
                ],
            ),
        },
        Timeline {
            name: "recommendation",
            analysis: analysis("recommendation"),
            gated: false,
            interval: 3_600,
            // "Run A/B test for 7 days".
            guide: &[(0, "Progressing the match"), (7 * 24 * 60, "Promoting 0%")],
            rows: rows(
                &[(0, "Progressing 0%"), (60, "Progressing the match")],
                &[],
                &[
                    (604_860, "Promoting 0%"),
                    (604_920, "Finalising 0%"),
                    (604_930, "Succeeded 0%"),
                ],
            ),
        },
    ]
}

/// 003:1811, "Total time: 100 minutes"; 003:1819, "5 minutes"; 003:1566, "Reach 100% mirroring after 10 iterations"; 003:1488, the region's
/// "Mirror traffic (10min)", "Gradual rollout (20min)", "Validation (5min)", which `examples/guide/api-gateway` spells out.
fn of_the_rest() -> Vec<Timeline> {
    let part = |name| manifest(name)["analysis"].clone();
    let region: Value = serde_saphyr::from_str(include_str!(
        "../../../examples/guide/api-gateway/canary.yaml"
    ))
    .unwrap();
    let twenty: Vec<u8> = (5..=100).step_by(5).collect();
    let copies: Vec<(i64, String)> = (1..=10)
        .map(|i| (i * 60, format!("Progressing copies of {}%", i * 10)))
        .collect();
    vec![
        Timeline {
            name: "conservative",
            analysis: part("conservative"),
            gated: false,
            interval: 300,
            guide: &[(100, "Promoting 50%")],
            rows: rows(
                &[(0, "Progressing 0%")],
                &climb(60, 300, &TEN),
                &[
                    (6_060, "Promoting 50%"),
                    (6_120, "Finalising 0%"),
                    (6_130, "Succeeded 0%"),
                ],
            ),
        },
        Timeline {
            name: "aggressive",
            analysis: part("aggressive"),
            gated: false,
            interval: 60,
            guide: &[(5, "Promoting 80%")],
            rows: rows(
                &[(0, "Progressing 0%")],
                &climb(60, 60, &[20, 40, 60, 80]),
                &[
                    (360, "Promoting 80%"),
                    (420, "Finalising 0%"),
                    (430, "Succeeded 0%"),
                ],
            ),
        },
        Timeline {
            name: "progressive-mirroring",
            analysis: part("progressive-mirroring"),
            gated: false,
            interval: 60,
            guide: &[
                (1, "Progressing copies of 10%"),
                (10, "Progressing copies of 100%"),
            ],
            rows: rows(
                &[(0, "Progressing 0%")],
                &copies,
                &[
                    (660, "Progressing 100%"),
                    (720, "Promoting 100%"),
                    (780, "Finalising 0%"),
                    (790, "Succeeded 0%"),
                ],
            ),
        },
        Timeline {
            name: "api-gateway",
            analysis: region["spec"]["analysis"].clone(),
            gated: false,
            interval: 60,
            guide: &[
                (0, "Progressing copies of 100%"),
                (10, "Progressing 5%"),
                (30, "Progressing 100%"),
                (35, "Promoting 100%"),
            ],
            rows: rows(
                &[(0, "Progressing 0%"), (60, "Progressing copies of 100%")],
                &climb(660, 60, &twenty),
                &[
                    (2_160, "Promoting 100%"),
                    (2_220, "Finalising 0%"),
                    (2_230, "Succeeded 0%"),
                ],
            ),
        },
    ]
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_agrees_with_every_timeline_of_the_guide() {
    let mut rig = Rig::without_engine(true);
    // 10 s to come up, and these.
    rig.edit(&DEPLOYMENT, NAME, |d| {
        d["spec"]["minReadySeconds"] = 50.into();
    });
    rig.start_engine("first");
    rig.until_phase(canary_mcp::decide::state::Phase::Initialized)
        .await;
    rig.pass(120).await;
    for timeline in of_the_strategies().into_iter().chain(of_the_rest()) {
        pace(&rig, &timeline.analysis, timeline.gated);
        let foreseen = foreseen(&planned(&rig).await);
        assert_eq!(foreseen, timeline.rows, "{}", timeline.name);
        assert_near(&foreseen, timeline.guide, timeline.interval);
    }
}
