//! Tokens of Amazon's EKS, as `argocd-k8s-auth aws` and `aws eks get-token` make them: a signed address of STS's `GetCallerIdentity`, which the
//! cluster calls to learn who we are.
//!
//! <https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>. Credentials are found as Amazon's own
//! tools find them. The signature itself is ours: that of the crate is made for S3, where the body is not signed.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, Credential, DefaultCredentialProvider, RequestSigner,
};
use reqsign_core::{
    Context, FileRead, HttpSend, OsEnv, ProvideCredential, Signer,
    hash::{hex_hmac_sha256, hex_sha256, hmac_sha256},
};

/// Before every token.
const PREFIX: &str = "k8s-aws-v1.";
/// Names the cluster that the token is for; part of what is signed.
const CLUSTER_HEADER: &str = "x-k8s-aws-id";
/// A token is taken for this long, less a minute for clocks that differ, as Amazon's own tools do.
const TAKEN_FOR: SignedDuration = SignedDuration::from_secs(14 * 60);
/// The signed address itself is called within this long.
const EXPIRES: &str = "60";
/// Finding credentials may take this long.
const WITHIN: Duration = Duration::from_secs(15);
/// One call for credentials may take this long; outside of Amazon's machines nobody answers at the address of theirs.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// What stays as it is in a query (RFC 3986, unreserved).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

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
    pub(super) async fn token(&self) -> Result<(String, Timestamp), String> {
        let failed = |why: &str| {
            format!(
                "no token of EKS can be made for {}: {why}; give this process credentials of AWS (a role of its service account, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
                self.cluster
            )
        };
        let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|region| !region.is_empty())
            // As aws-iam-authenticator: the global endpoint, which is there.
            .unwrap_or_else(|| "us-east-1".to_owned());
        let found = tokio::time::timeout(WITHIN, self.credential(&region)).await;
        let credential = match found {
            Ok(Ok(Some(credential))) => credential,
            Ok(Ok(None)) => return Err(failed("there are no credentials of AWS here")),
            // What the crate says of a failed call may carry its answer.
            Ok(Err(error)) => return Err(failed(&format!("{:?}", error.kind()))),
            Err(_) => return Err(failed(&format!("no answer within {WITHIN:?}"))),
        };
        let now = Timestamp::now();
        Ok((
            token(&self.cluster, &region, &credential, now),
            now + TAKEN_FOR,
        ))
    }

    async fn credential(&self, region: &str) -> reqsign_core::Result<Option<Credential>> {
        let http = reqwest::Client::builder().timeout(CALL_WITHIN).build();
        let http = http.map_err(|_| reqsign_core::Error::unexpected("no client"))?;
        let context = Context::new()
            .with_env(OsEnv)
            .with_file_read(Files)
            .with_http_send(Http(http));
        let mut own = DefaultCredentialProvider::builder();
        if let Some(profile) = &self.profile {
            own = own.with_profile(profile);
        }
        let own = own.build();
        match &self.role {
            None => own.provide_credential(&context).await,
            Some(role) => {
                let signer = Signer::new(context.clone(), own, RequestSigner::new("sts", region));
                let role = AssumeRoleCredentialProvider::new(role.clone(), signer)
                    .with_region(region.to_owned())
                    .with_regional_sts_endpoint();
                role.provide_credential(&context).await
            }
        }
    }
}

/// The token: a signed address (Signature Version 4, in the query), encoded.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html>
fn token(cluster: &str, region: &str, credential: &Credential, now: Timestamp) -> String {
    let host = if region.starts_with("cn-") {
        format!("sts.{region}.amazonaws.com.cn")
    } else {
        format!("sts.{region}.amazonaws.com")
    };
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = now.strftime("%Y%m%d").to_string();
    let scope = format!("{day}/{region}/sts/aws4_request");
    let signed_headers = format!("host;{CLUSTER_HEADER}");
    let key = format!("{}/{scope}", credential.access_key_id);
    // In the order of the names, as they are signed.
    let mut query = vec![
        ("Action", "GetCallerIdentity"),
        ("Version", "2011-06-15"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", key.as_str()),
        ("X-Amz-Date", time.as_str()),
        ("X-Amz-Expires", EXPIRES),
    ];
    if let Some(session) = &credential.session_token {
        query.push(("X-Amz-Security-Token", session));
    }
    query.push(("X-Amz-SignedHeaders", signed_headers.as_str()));
    let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let query = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect::<Vec<_>>()
        .join("&");
    let body = hex_sha256(b"");
    let request = format!(
        "GET\n/\n{query}\nhost:{host}\n{CLUSTER_HEADER}:{cluster}\n\n{signed_headers}\n{body}"
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex_sha256(request.as_bytes())
    );
    let secret = format!("AWS4{}", credential.secret_access_key);
    let mut signing = hmac_sha256(secret.as_bytes(), day.as_bytes());
    for part in [region, "sts", "aws4_request"] {
        signing = hmac_sha256(&signing, part.as_bytes());
    }
    let signature = hex_hmac_sha256(&signing, to_sign.as_bytes());
    let mut address = format!("https://{host}/?{query}");
    // Writing to a text cannot fail.
    let _ = write!(address, "&X-Amz-Signature={signature}");
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(address))
}

/// Reads the shared configuration and the token of the service account.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        tokio::fs::read(path).await.map_err(|error| {
            reqsign_core::Error::unexpected("a file cannot be read").with_source(error)
        })
    }
}

/// Asks STS and Amazon's machines for credentials.
#[derive(Debug)]
struct Http(reqwest::Client);

impl HttpSend for Http {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |error: reqwest::Error| {
            // The address may carry a token.
            reqsign_core::Error::unexpected("a call has failed").with_source(error.without_url())
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let answer = self.0.execute(request).await.map_err(failed)?;
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        *response.body_mut() = answer.bytes().await.map_err(failed)?;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same address as botocore's `RequestSigner.generate_presigned_url` gives for these credentials at this moment.
    #[test]
    fn a_token_is_the_address_that_amazons_own_library_signs() {
        let credential = Credential {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
            expires_in: None,
        };
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let address = |credential: &Credential| {
            let token = token("eks-kr", "ap-northeast-2", credential, now);
            let encoded = token.strip_prefix("k8s-aws-v1.").unwrap();
            String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
        };
        assert_eq!(
            address(&credential),
            "https://sts.ap-northeast-2.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20261121%2Fap-northeast-2%2Fsts%2Faws4_request&X-Amz-Date=20261121T000000Z&X-Amz-Expires=60\
             &X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature=3567c65d2bb24da0d56250bfdbacac31a237760f69a6774c487e20ed916bbbf7"
        );
        let temporary = Credential {
            session_token: Some("session/token+1==".to_owned()),
            ..credential
        };
        let address = address(&temporary);
        assert!(
            address.contains("&X-Amz-Security-Token=session%2Ftoken%2B1%3D%3D&"),
            "{address}"
        );
        assert!(
            address.ends_with(
                "&X-Amz-Signature=cae3ddf8d19346f5e5d8ddc00032baced3fc29012575df81b40e891d133197e5"
            ),
            "{address}"
        );
    }
}
