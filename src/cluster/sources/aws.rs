//! Tokens of Amazon's EKS.

use jiff::Timestamp;

/// `awsAuthConfig` of a cluster Secret.
#[derive(Clone)]
pub(super) struct AwsAuth {
    /// Name of the EKS cluster.
    pub(super) cluster: String,
    /// A role to take.
    pub(super) role: Option<String>,
    /// A profile of the shared configuration.
    pub(super) profile: Option<String>,
}

impl AwsAuth {
    /// Equal marks: the same token.
    pub(super) fn mark(&self) -> String {
        let Self {
            cluster,
            role,
            profile,
        } = self;
        format!("{cluster} {role:?} {profile:?}")
    }

    /// A token and when it ends.
    #[expect(clippy::unused_async, reason = "until tokens are signed here")]
    pub(super) async fn token(&self) -> Result<(String, Timestamp), String> {
        Err(format!(
            "EKS cluster {} takes tokens of Amazon's, which are not made here; give the Secret an execProviderConfig (aws eks get-token) or a bearerToken in the place of its awsAuthConfig",
            self.cluster
        ))
    }
}
