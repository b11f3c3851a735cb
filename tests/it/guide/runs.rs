//! Each example is run whole, a good version and a bad one, with the guide's timeline beside it. The minutes may be off by one interval: the guide
//! counts one until the canary is up, and here its pods take a few seconds.

use canary_mcp::api::objects::ObjectExt;
use canary_mcp::{
    cluster::embedded::load_tester::{Call, Script},
    decide::state::Phase,
};

use super::examples::{Files, Row, Shown, assert_near, files};

/// What happens, in order, without the times.
fn course(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|(_, row)| row.as_str()).collect()
}

/// A good version is promoted, by the guide's minutes.
async fn good(shown: &Shown, guide: &[(i64, &str)], interval: i64) -> Vec<Row> {
    let before = shown.so_far();
    let rows = shown.run("1.1.0", Phase::Succeeded).await;
    assert_near(&rows, guide, interval);
    shown.assert_ended("1.1.0", &before).await;
    rows
}

/// A version that fails every fifth request is rolled back, and nobody else has noticed.
async fn bad(shown: &Shown, live: &str) -> Vec<Row> {
    let before = shown.so_far();
    let rows = shown.run("1.2.0-errors", Phase::Failed).await;
    shown.assert_ended(live, &before).await;
    rows
}

/// Users stayed where they were.
fn assert_never_switched(rows: &[Row]) {
    let course = course(rows);
    assert_eq!(course.first(), Some(&"Progressing 0%"), "{rows:?}");
    assert!(course.contains(&"Progressing without users"), "{rows:?}");
    assert!(!course.iter().any(|row| row.ends_with("100%")), "{rows:?}");
}

/// The calls of the load tester whose command or path has this in it.
fn calls(shown: &Shown, part: &str) -> Vec<Call> {
    let mut calls = shown.rig.member().load_tester().calls();
    calls.retain(|call| {
        call.path.contains(part)
            || call
                .payload
                .str_at("/metadata/cmd")
                .is_some_and(|cmd| cmd.contains(part))
    });
    calls
}

/// 003:314: "~12 minutes".
#[tokio::test(start_paused = true)]
async fn the_canary() {
    let shown = Shown::of(files!("canary")).await;
    let guide = [
        (1, "Progressing 5%"),
        (2, "Progressing 10%"),
        (5, "Progressing 25%"),
        (10, "Progressing 50%"),
        (11, "Promoting 50%"),
        (12, "Succeeded 0%"),
    ];
    let rows = good(&shown, &guide, 60).await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing 5%",
            "Progressing 10%",
            "Progressing 15%",
            "Progressing 20%",
            "Progressing 25%",
            "Progressing 30%",
            "Progressing 35%",
            "Progressing 40%",
            "Progressing 45%",
            "Progressing 50%",
            "Promoting 50%",
            "Finalising 0%",
            "Succeeded 0%",
        ]
    );
    let rows = bad(&shown, "1.1.0").await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing 5%",
            "Progressing 0%",
            "Failed 0%"
        ]
    );
    // "Max number of failed checks before rollback": 10, one a minute.
    assert_near(&rows, &[(11, "Failed 0%")], 60);
}

/// 003:361: ten iterations of a minute.
#[tokio::test(start_paused = true)]
async fn the_ab_test() {
    let shown = Shown::of(files!("ab-testing")).await;
    let rows = good(
        &shown,
        &[(1, "Progressing the match"), (11, "Promoting the match")],
        60,
    )
    .await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing the match",
            "Promoting the match",
            "Finalising 0%",
            "Succeeded 0%"
        ]
    );
    let rows = bad(&shown, "1.1.0").await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing the match",
            "Progressing 0%",
            "Failed 0%"
        ]
    );
}

/// 003:445: "Instant Switch (T=11 min)".
#[tokio::test(start_paused = true)]
async fn the_blue_green() {
    let shown = Shown::of(files!("blue-green")).await;
    let guide = [(1, "Progressing without users"), (11, "Progressing 100%")];
    let rows = good(&shown, &guide, 60).await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing without users",
            "Progressing 100%",
            "Promoting 100%",
            "Finalising 0%",
            "Succeeded 0%",
        ]
    );
    let smoke = calls(&shown, "grep token");
    assert!(smoke.len() >= 11, "{smoke:?}");
    // "If validation fails: Keep traffic on Blue".
    assert_never_switched(&bad(&shown, "1.1.0").await);
}

/// 003:481: ten iterations on copies.
#[tokio::test(start_paused = true)]
async fn the_mirroring() {
    let shown = Shown::of(files!("mirroring")).await;
    let guide = [(1, "Progressing copies of 100%"), (11, "Progressing 100%")];
    let rows = good(&shown, &guide, 60).await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing copies of 100%",
            "Progressing 100%",
            "Promoting 100%",
            "Finalising 0%",
            "Succeeded 0%",
        ]
    );
    let rows = bad(&shown, "1.1.0").await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing copies of 100%",
            "Progressing 0%",
            "Failed 0%"
        ]
    );
}

/// 003:1187-1194, to "T=24m: Promotion to 100%".
#[tokio::test(start_paused = true)]
async fn the_payments() {
    let shown = Shown::of(files!("payments")).await;
    let guide = [
        (2, "Progressing 5%"),
        (4, "Progressing 10%"),
        (6, "Progressing 15%"),
        (20, "Progressing 50%"),
        (22, "WaitingPromotion 50%"),
        (24, "Promoting 50%"),
    ];
    good(&shown, &guide, 120).await;
    assert!(calls(&shown, "payment-smoke-test.sh").len() >= 10);
    let rows = bad(&shown, "1.1.0").await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing 5%",
            "Progressing 0%",
            "Failed 0%"
        ]
    );
    // "Rollback after 3 consecutive failures", two minutes each.
    assert_near(&rows, &[(6, "Failed 0%")], 120);
}

/// 003:1216: 168 analyses; each of a minute here instead of an hour, which would be a week of requests.
#[tokio::test(start_paused = true)]
async fn the_recommendation() {
    let shown = Shown::with(files!("recommendation"), |canary| {
        canary["spec"]["analysis"]["interval"] = "1m".into();
    })
    .await;
    let guide = [(1, "Progressing the match"), (168, "Promoting the match")];
    good(&shown, &guide, 60).await;
    let rows = bad(&shown, "1.1.0").await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing the match",
            "Progressing 0%",
            "Failed 0%"
        ]
    );
}

/// 003:1294: ten iterations of a minute without users; after a rollback the migration is reverted, after a promotion the old schema goes.
#[tokio::test(start_paused = true)]
async fn the_user_service() {
    let shown = Shown::of(files!("user-service")).await;
    let guide = [(1, "Progressing without users"), (11, "Progressing 100%")];
    good(&shown, &guide, 60).await;
    let count = |part| calls(&shown, part).len();
    assert_eq!(
        (
            count("migrate.sh up"),
            count("cleanup-old-schema"),
            count("migrate.sh down")
        ),
        (1, 1, 0)
    );
    assert_never_switched(&bad(&shown, "1.1.0").await);
    assert_eq!(
        (
            count("migrate.sh up"),
            count("cleanup-old-schema"),
            count("migrate.sh down")
        ),
        (2, 1, 1)
    );
}

/// The guide's own spelling: its rollback hook reverts the database each time that it is asked, and "yes, reverted" ends a good run at once.
#[tokio::test(start_paused = true)]
async fn the_user_service_with_the_guides_own_rollback_hook_never_gets_through() {
    let shown = Shown::with(files!("user-service"), |canary| {
        let hooks = canary["spec"]["analysis"]["webhooks"]
            .as_array_mut()
            .unwrap();
        let revert = hooks
            .iter_mut()
            .find(|hook| hook["name"] == "db-rollback")
            .unwrap();
        revert["type"] = "rollback".into();
        revert.as_object_mut().unwrap().remove("when");
    })
    .await;
    let told = shown.planned("1.1.0").await.warnings;
    assert!(
        told.contains(
            &"rollback hook db-rollback carries something to do: it is called at each interval, and a yes rolls the canary back; what has to be \
              done after a rollback is a post-rollout hook with when: [failed, rolledBack]"
                .to_owned()
        ),
        "{told:?}"
    );
    let rows = shown.run("1.1.0", Phase::Failed).await;
    assert_eq!(course(&rows), ["Progressing 0%", "Failed 0%"]);
    assert_eq!(calls(&shown, "migrate.sh down").len(), 1);
    assert_eq!(shown.live(), "registry.example/user-service:1.0.0");
}

/// 003:1488: "Mirror traffic (10min)", "Gradual rollout (20min)", "Validation (5min)".
#[tokio::test(start_paused = true)]
async fn the_api_gateway_mirrors_then_climbs_then_holds() {
    let shown = Shown::of(files!("api-gateway")).await;
    let guide = [
        (1, "Progressing copies of 100%"),
        (10, "Progressing 5%"),
        (20, "Progressing 55%"),
        (30, "Progressing 100%"),
        (35, "Promoting 100%"),
    ];
    good(&shown, &guide, 60).await;
    let rows = bad(&shown, "1.1.0").await;
    assert_eq!(
        course(&rows),
        [
            "Progressing 0%",
            "Progressing copies of 100%",
            "Progressing 0%",
            "Failed 0%"
        ]
    );
}

/// 003:1645: the flag is on before the first request, and off again only when the version does not stay.
#[tokio::test(start_paused = true)]
async fn the_feature_flag() {
    let shown = Shown::of(files!("feature-flag")).await;
    shown
        .rig
        .member()
        .load_tester()
        .script(Script::answer("/api/flags", 200, ""));
    let flags = || -> Vec<bool> {
        let calls = calls(&shown, "/api/flags");
        calls
            .iter()
            .map(|call| call.payload["enabled"] == true)
            .collect()
    };
    good(
        &shown,
        &[
            (1, "Progressing 10%"),
            (5, "Progressing 50%"),
            (6, "Promoting 50%"),
        ],
        60,
    )
    .await;
    assert_eq!(flags(), [true]);
    bad(&shown, "1.1.0").await;
    assert_eq!(flags(), [true, true, false]);
}
