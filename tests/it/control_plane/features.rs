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
    /// Services have an `internalTrafficPolicy` and IP families without being asked.
    ServiceDefaults,
    ServiceCollections,
    GrpcProbes,
    /// No Secret comes by itself into a namespace.
    NoTokenSecrets,
    /// `kubernetes.io/metadata.name` at each namespace.
    NamespaceLabel,
    /// Discovery tells singular names of builtin kinds.
    SingularNames,
    /// The column RESTARTS of pods is text.
    RestartsAsText,
    /// A `creationTimestamp` that there is not is left out.
    NoNullTimestamps,
    /// Lists from the watch cache are in the order of names.
    OrderedCache,
    /// A request whose form is wrong is a 400.
    MistakesAreBadRequests,
    /// The words of refusals, and their causes, of the newest API machinery.
    NewestWords,
    /// Whole rollouts of ours.
    Rollouts,
    /// What makes pods of Deployments and collects garbage.
    Controllers,
}

/// The features that came with a minor version of Kubernetes 1 (switched on by default), and what an older one lacks.
///
/// What only the protocol suite is concerned with, and came some time between 1.20 and 1.36, is said to have come with 1.36.
pub(super) const SINCE: [(Feature, u32, &str); 23] = [
    (Feature::PolicyV1, 21, "it has no policy/v1"),
    (Feature::BatchV1CronJob, 21, "it has no CronJob in batch/v1"),
    (
        Feature::EndpointSliceV1,
        21,
        "it has no EndpointSlice in discovery.k8s.io/v1",
    ),
    (
        Feature::NamespaceLabel,
        21,
        "its namespaces have no label with their name",
    ),
    (
        Feature::ManagedFieldsSubresource,
        22,
        "its managedFields do not name the subresource",
    ),
    (
        Feature::ServiceDefaults,
        22,
        "it does not set a Service's internalTrafficPolicy and IP families",
    ),
    (
        Feature::RestartsAsText,
        22,
        "it tells a pod's restarts as a number",
    ),
    (
        Feature::ServiceCollections,
        23,
        "it does not delete Services as a collection",
    ),
    (
        Feature::Rollouts,
        OLDEST_SUPPORTED.1,
        "rollouts are supported on 1.23 and newer",
    ),
    (Feature::AutoscalingV2, 23, "it has no autoscaling/v2"),
    (Feature::OpenApiV3, 24, "it has no /openapi/v3"),
    (Feature::GrpcProbes, 24, "it has no gRPC probes"),
    (
        Feature::NoTokenSecrets,
        24,
        "it makes a Secret for each service account",
    ),
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
        Feature::SingularNames,
        27,
        "it tells no singular names of builtin kinds",
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
    (
        Feature::NoNullTimestamps,
        36,
        "it shows the creationTimestamp of a pod template, which is null",
    ),
    (
        Feature::OrderedCache,
        36,
        "its lists from the watch cache are in no order",
    ),
    (
        Feature::MistakesAreBadRequests,
        36,
        "it answers 500 or 422 to some requests whose form is wrong",
    ),
    (
        Feature::NewestWords,
        36,
        "it tells refusals and their causes in other words",
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
        [
            Feature::SelfSubjectReview,
            Feature::StreamingList,
            Feature::NoNullTimestamps,
            Feature::OrderedCache,
            Feature::MistakesAreBadRequests,
            Feature::NewestWords,
        ]
    );
    assert_eq!(lacked((1, 20)).len(), 23);
    assert!(lack((1, 20), true, Feature::Controllers).is_none());
    assert!(lack((1, 36), false, Feature::Controllers).is_some());
}
