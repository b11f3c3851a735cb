//! Who holds the Lease.

use std::time::Duration;

use canary_mcp::{
    api::objects::{LEASE, NAMESPACE},
    cluster::{LeaseKeeper, Standing},
};
use serde_json::json;
use tokio::time::Instant;

use super::support::{LEASES, Line, held, member, soon, world};

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_over_only_after_its_whole_duration() {
    let world = world();
    let first = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&first).await;
    let second = LeaseKeeper::start(&member(&world.server, &Line::default()), "second", LEASES);
    let mut standing = second.watch();
    soon(&mut standing, |standing| matches!(standing, Standing::Follower { holder: Some(holder) } if holder == "first")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        first.held().is_some() && second.held().is_none(),
        "the holder renews"
    );

    world.line.cut();
    let cut = Instant::now();
    let mut stops = first.watch();
    soon(&mut stops, |standing| {
        !matches!(standing, Standing::Held(_))
    })
    .await;
    let stopped = cut.elapsed();
    assert!(old.check().is_err());
    assert!(
        second.held().is_none(),
        "the holder stops before anyone can take over"
    );
    let new = held(&second).await;
    let taken = cut.elapsed();
    // The last renewal was up to 5 s before the cut.
    assert!(
        stopped >= Duration::from_secs(5) && stopped <= Duration::from_secs(13),
        "{stopped:?}"
    );
    assert!(
        taken >= Duration::from_secs(10) && taken <= Duration::from_secs(21),
        "{taken:?}"
    );
    assert!(new.epoch() != old.epoch());

    // The first one comes back and follows.
    world.line.mend();
    let mut standing = first.watch();
    soon(&mut standing, |standing| matches!(standing, Standing::Follower { holder: Some(holder) } if holder == "second")).await;
    second.release().await;
    let third = held(&first).await;
    assert_eq!(
        third.epoch().parse::<u64>().unwrap(),
        old.epoch().parse::<u64>().unwrap() + 2
    );
    first.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_release_hands_over_at_once() {
    let world = world();
    let first = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&first).await;
    let second = LeaseKeeper::start(&member(&world.server, &Line::default()), "second", LEASES);
    let mut standing = second.watch();
    soon(&mut standing, |standing| {
        matches!(standing, Standing::Follower { holder: Some(_) })
    })
    .await;
    let released = Instant::now();
    first.release().await;
    assert!(old.check().is_err());
    let new = held(&second).await;
    assert!(
        released.elapsed() < Duration::from_secs(1),
        "{:?}",
        released.elapsed()
    );
    assert!(new.epoch() != old.epoch());
    second.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_as_others_see_it() {
    let world = world();
    assert_eq!(
        world
            .cluster
            .lease_view(LEASES, "canary-mcp")
            .await
            .unwrap(),
        None
    );
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    held(&keeper).await;
    let view = world
        .cluster
        .lease_view(LEASES, "canary-mcp")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.holder.as_deref(), view.fresh), (Some("first"), true));
    world.line.cut();
    tokio::time::sleep(Duration::from_secs(17)).await;
    world.line.mend();
    let other = member(&world.server, &Line::default());
    // Read before the keeper's next attempt.
    let view = other
        .lease_view(LEASES, "canary-mcp")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.holder.as_deref(), view.fresh), (Some("first"), false));
    held(&keeper).await;
    keeper.release().await;
    let view = other
        .lease_view(LEASES, "canary-mcp")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.holder, view.fresh), (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_lost_renewal_answer_or_a_label_is_no_loss() {
    let world = world();
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let fence = held(&keeper).await;
    world
        .server
        .faults()
        .drop_next_answer(|request| request.plural == "leases" && request.verb == "update");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(fence.check().is_ok());
    world
        .server
        .store()
        .modify(&LEASE, LEASES, "canary-mcp", "kubectl", |lease| {
            lease["metadata"]["labels"] = json!({"a": "b"});
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(fence.check().is_ok());
    assert_eq!(
        keeper.held().map(|held| held.epoch().to_owned()),
        Some(fence.epoch().to_owned())
    );
    keeper.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_ends_the_holder_and_never_repeats_an_epoch() {
    let world = world();
    let keeper = LeaseKeeper::start(&world.cluster, "first", LEASES);
    let old = held(&keeper).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world
        .server
        .store()
        .delete(&LEASE, LEASES, "canary-mcp")
        .unwrap();
    let mut standing = keeper.watch();
    // The Lease is made again at once, so it may be the new one that is seen first.
    let is_new = |standing: &Standing| matches!(standing, Standing::Held(held) if held.epoch() != old.epoch());
    soon(&mut standing, is_new).await;
    assert!(old.check().is_err());
    let new = held(&keeper).await;
    assert!(new.epoch().parse::<u64>().unwrap() > old.epoch().parse::<u64>().unwrap());
    keeper.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_namespace_is_told_with_the_command_and_heals() {
    let world = world();
    let keeper = LeaseKeeper::start(&world.cluster, "first", "elsewhere");
    let mut standing = keeper.watch();
    let told = soon(&mut standing, |standing| {
        matches!(standing, Standing::Refused(_))
    })
    .await;
    let Standing::Refused(text) = told else {
        panic!("{told:?}")
    };
    assert!(
        text.ends_with(
            "make the namespace with: kubectl --context prod-kr create namespace elsewhere"
        ),
        "{text}"
    );
    world
        .server
        .store()
        .create(
            &NAMESPACE,
            json!({"metadata": {"name": "elsewhere"}}),
            "kubectl",
        )
        .unwrap();
    held(&keeper).await;
    keeper.release().await;
}
