//! One call to an API server: paths, the request, its bounds, and the answer as raw JSON.
//!
//! Calls do not go through `kube::Api`, because its types would drop what they do not know and hide the answer's headers.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use kube::{Client, client::Body};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::error::{Cause, cause_of_answer};
use crate::api::objects::{Kind, Ref};

/// What an answer may weigh: a full page of 500 objects at etcd's limit of 1.5 MiB would be more, but no kind of ours comes near.
const MOST_BYTES: usize = 128 << 20;
/// What stays as it is in one segment of a path (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    /// Real time until the whole answer must be there.
    pub(crate) within: Duration,
}

/// A success.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Call {
    pub(crate) fn get(path: String, within: Duration) -> Self {
        Self {
            method: Method::GET,
            path,
            content_type: "application/json",
            body: Vec::new(),
            within,
        }
    }

    pub(crate) fn write(
        method: Method,
        path: String,
        content_type: &'static str,
        body: &Value,
        within: Duration,
    ) -> Self {
        Self {
            method,
            path,
            content_type,
            body: body.to_string().into_bytes(),
            within,
        }
    }

    fn request(self) -> Result<Request<Bytes>, Cause> {
        Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, self.content_type)
            .body(Bytes::from(self.body))
            .map_err(|error| Cause::Own(format!("the request cannot be made: {error}")))
    }
}

/// Sends `call`; an answer that is not a success is a [`Cause::Status`].
pub(crate) async fn send(client: &Client, call: Call) -> Result<Answer, Cause> {
    let within = call.within;
    let (status, headers, body) = exchange(client, call.request()?, within, MOST_BYTES).await?;
    if !status.is_success() {
        return Err(cause_of_answer(status, &body));
    }
    let body =
        serde_json::from_slice(&body).map_err(|error| Cause::Body(format!("no JSON: {error}")))?;
    Ok(Answer { headers, body })
}

/// Sends `request` and reads the answer whole, whatever its status.
pub(crate) async fn exchange(
    client: &Client,
    request: Request<Bytes>,
    within: Duration,
    most: usize,
) -> Result<(StatusCode, HeaderMap, Bytes), Cause> {
    let exchange = async {
        let answer = client
            .send(request.map(Body::from))
            .await
            .map_err(Cause::Client)?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, most)
            .collect()
            .await
            .map_err(|error| Cause::Body(super::error::report(error.as_ref())))?
            .to_bytes();
        Ok((parts.status, parts.headers, body))
    };
    match tokio::time::timeout(within, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(Cause::Timeout(within)),
    }
}

/// One segment of a path, escaped.
pub(crate) fn segment(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, SEGMENT).into()
}

/// Path of a kind's collection; an empty or absent namespace is the whole cluster.
pub(crate) fn collection(kind: &Kind, namespace: Option<&str>) -> String {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    match namespace.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{root}/namespaces/{}/{}", segment(namespace), kind.plural),
        None => format!("{root}/{}", kind.plural),
    }
}

/// Path of one object. A name that would make it another path (none, or a step up) is refused.
pub(crate) fn item(of: &Ref) -> Result<String, Cause> {
    if matches!(of.name.as_str(), "" | "." | "..") || matches!(of.namespace.as_str(), "." | "..") {
        return Err(Cause::Own(format!(
            "{:?} in namespace {:?} is no name of an object",
            of.name, of.namespace
        )));
    }
    Ok(format!(
        "{}/{}",
        collection(&of.kind, Some(&of.namespace)),
        segment(&of.name)
    ))
}

/// `path` with the parameters that have a value.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// `plural.group`, as kubectl writes a resource.
pub(crate) fn resource(kind: &Kind) -> String {
    if kind.group.is_empty() {
        kind.plural.to_owned()
    } else {
        format!("{}.{}", kind.plural, kind.group)
    }
}

/// `object` with `apiVersion` and `kind`, which a real API server leaves out in lists.
pub(crate) fn typed(mut object: Value, kind: &Kind) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields
            .entry("apiVersion")
            .or_insert_with(|| Value::from(kind.api_version()));
        fields
            .entry("kind")
            .or_insert_with(|| Value::from(kind.kind));
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::objects::{CANARY, NAMESPACE, POD};

    fn path(kind: Kind, namespace: &str, name: &str) -> Result<String, Cause> {
        item(&Ref {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    #[test]
    fn paths() {
        assert_eq!(collection(&POD, None), "/api/v1/pods");
        assert_eq!(collection(&POD, Some("a")), "/api/v1/namespaces/a/pods");
        assert_eq!(
            path(CANARY, "ai-platform", "mcp-server").unwrap(),
            "/apis/flagger.app/v1beta1/namespaces/ai-platform/canaries/mcp-server"
        );
        assert_eq!(path(NAMESPACE, "", "x").unwrap(), "/api/v1/namespaces/x");
    }

    #[test]
    fn a_name_from_outside_stays_one_segment() {
        assert_eq!(
            path(POD, "a/../b", "x?dryRun=All#").unwrap(),
            "/api/v1/namespaces/a%2F..%2Fb/pods/x%3FdryRun%3DAll%23"
        );
        // An empty name would be the whole list, and `..` the namespace.
        for name in ["", ".", ".."] {
            assert!(path(POD, "a", name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn queries_are_escaped_and_empty_ones_left_out() {
        assert_eq!(with_query("/a", &[("b", None)]), "/a");
        assert_eq!(
            with_query(
                "/a",
                &[
                    ("labelSelector", Some("app in (x,y)")),
                    ("limit", Some("500"))
                ]
            ),
            "/a?labelSelector=app+in+%28x%2Cy%29&limit=500"
        );
    }

    #[test]
    fn a_list_item_learns_its_kind() {
        assert_eq!(
            typed(json!({"metadata": {"name": "x"}}), &CANARY),
            json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "x"}})
        );
    }
}
