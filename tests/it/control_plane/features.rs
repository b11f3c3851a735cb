//! What an older Kubernetes lacks: the only reasons for which a test may be skipped on a control plane.

use super::OLDEST_SUPPORTED;

/// What a test may need of an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    OpenApiV3,
    AggregatedDiscovery,
    StreamingList,
    FieldValidation,
    AutoscalingV2,
    PolicyV1,
    BatchV1CronJob,
    EndpointSliceV1,
    /// Rules of CEL in custom resource definitions.
    Cel,
    /// `managedFields[].subresource`.
    ManagedFieldsSubresource,
    SelfSubjectReview,
    /// Whole rollouts of ours.
    Rollouts,
    /// What makes pods of Deployments and collects garbage.
    Controllers,
}

/// The features that came with a minor version of Kubernetes 1 (switched on by default), and what an older one lacks.
pub(super) const SINCE: [(Feature, u32, &str); 12] = [
    (Feature::PolicyV1, 21, "it has no policy/v1"),
    (Feature::BatchV1CronJob, 21, "it has no CronJob in batch/v1"),
    (
        Feature::EndpointSliceV1,
        21,
        "it has no EndpointSlice in discovery.k8s.io/v1",
    ),
    (
        Feature::ManagedFieldsSubresource,
        22,
        "its managedFields do not name the subresource",
    ),
    (
        Feature::Rollouts,
        OLDEST_SUPPORTED.1,
        "rollouts are supported on 1.23 and newer",
    ),
    (Feature::AutoscalingV2, 23, "it has no autoscaling/v2"),
    (Feature::OpenApiV3, 24, "it has no /openapi/v3"),
    (
        Feature::Cel,
        25,
        "it drops the CEL rules of custom resources",
    ),
    (Feature::FieldValidation, 25, "it ignores fieldValidation"),
    (
        Feature::AggregatedDiscovery,
        27,
        "it has no aggregated discovery",
    ),
    (
        Feature::SelfSubjectReview,
        28,
        "it has no SelfSubjectReview in authentication.k8s.io/v1",
    ),
    (
        Feature::StreamingList,
        34,
        "it has no sendInitialEvents by default",
    ),
];

/// What a control plane of this version, with or without controllers, lacks of a feature.
pub(super) fn lack(
    version: (u32, u32),
    controllers: bool,
    feature: Feature,
) -> Option<&'static str> {
    if !controllers && matches!(feature, Feature::Controllers | Feature::Rollouts) {
        return Some("there is no kube-controller-manager beside its kube-apiserver");
    }
    let (_, since, lack) = SINCE.iter().find(|(listed, ..)| *listed == feature)?;
    (version < (1, *since)).then_some(*lack)
}

#[test]
fn an_old_kubernetes_lacks_what_came_later() {
    let lacked = |version| {
        let features = SINCE.iter().map(|(feature, ..)| *feature);
        let lacked = features.filter(|feature| lack(version, true, *feature).is_some());
        lacked.collect::<Vec<_>>()
    };
    assert_eq!(lacked((1, 36)), []);
    assert_eq!(
        lacked((1, 27)),
        [Feature::SelfSubjectReview, Feature::StreamingList]
    );
    assert_eq!(lacked((1, 20)).len(), 12);
    assert!(lack((1, 20), true, Feature::Controllers).is_none());
    assert!(lack((1, 36), false, Feature::Controllers).is_some());
}
