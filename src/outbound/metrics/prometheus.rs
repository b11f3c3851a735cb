//! Prometheus' HTTP API: one instant query, as Flagger asks it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    decide::facts::Reading,
    outbound::http::{HttpError, Transport},
};

/// How long Flagger waits for an answer, in real time.
pub const WITHIN: Duration = Duration::from_secs(5);
/// Asks whether Prometheus answers at all: it must be 1. Flagger.
pub const ONLINE: &str = "vector(1)";

/// Credentials of a provider's Secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// Key `token`.
    Bearer(String),
    /// Keys `username` and `password`.
    Basic {
        /// `username`.
        username: String,
        /// `password`.
        password: String,
    },
}

impl Auth {
    /// The credentials in a Secret. Flagger: key `token`, else `username` and `password`.
    ///
    /// # Errors
    /// Which keys are missing. No text holds a value.
    pub fn of(secret: &Value) -> Result<Self, String> {
        let key = |key: &str| {
            // An absent key would be read as an empty value.
            let data = secret.pointer(&format!("/data/{key}"))?;
            let bytes: ByteString = serde_json::from_value(data.clone()).ok()?;
            String::from_utf8(bytes.0).ok()
        };
        if let Some(token) = key("token") {
            return Ok(Self::Bearer(token));
        }
        match (key("username"), key("password")) {
            (Some(username), Some(password)) => Ok(Self::Basic { username, password }),
            _ => Err("has neither the key token nor the keys username and password".to_owned()),
        }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer(***)",
            Self::Basic { .. } => "Basic(***)",
        })
    }
}

/// The request for an instant query now. `address` may have a path before `/api/v1/query`.
///
/// # Errors
/// What in the address or the headers cannot be sent. No text holds a header's value.
pub fn request(
    address: &str,
    query: &str,
    headers: &[(String, String)],
    auth: &Auth,
) -> Result<Request<Bytes>, String> {
    let base = address.split(['?', '#']).next().unwrap_or(address);
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("query", query)
        .finish();
    let url = format!("{}/api/v1/query?{query}", base.trim_end_matches('/'));
    let mut request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|error| format!("address {base:?} cannot be called: {error}"))?;
    for (name, value) in headers {
        let header = HeaderName::try_from(name)
            .map_err(|_| format!("headers: {name:?} is no name of a header"))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| format!("headers: the value of {name:?} cannot be sent"))?;
        request.headers_mut().append(header, value);
    }
    let authorization = match auth {
        Auth::None => None,
        Auth::Bearer(token) => Some(format!("Bearer {token}")),
        Auth::Basic { username, password } => {
            let pair = ByteString(format!("{username}:{password}").into_bytes());
            // A ByteString is base64 on the wire.
            let pair = serde_json::to_value(pair).map_err(|error| error.to_string())?;
            pair.as_str().map(|pair| format!("Basic {pair}"))
        }
    };
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::try_from(authorization)
            .map_err(|_| "the credentials have characters that cannot be sent".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

/// Sends a query's request and reads its answer. It never fails: what goes wrong is a [`Reading::Error`].
pub async fn ask(transport: &Transport, request: Request<Bytes>) -> Reading {
    match transport.send(request, WITHIN).await {
        Ok(answer) => parse(answer.status().as_u16(), answer.body()),
        Err(
            error @ (HttpError::Timeout { .. }
            | HttpError::TooLarge { .. }
            | HttpError::Failed { .. }),
        ) => Reading::Error(error.to_string()),
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType", default)]
    result_type: String,
    #[serde(default)]
    result: Value,
}

/// What an answer means. Flagger's rules: the last element of a vector counts; none, and NaN, are no data; a range vector is an error.
/// Ours: a scalar is a value, and an infinite value is an error, because it would pass a check that has only a minimum.
#[must_use]
pub fn parse(status: u16, body: &[u8]) -> Reading {
    let answer: Answer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) => return Reading::Error(foreign(status, body)),
    };
    if status >= 400 || answer.status != "success" {
        let text = if answer.error.is_empty() {
            "no reason given"
        } else {
            &answer.error
        };
        return Reading::Error(format!("Prometheus answered {status}: {text}"));
    }
    for warning in &answer.warnings {
        // Thanos answers with a part of the data and says so here.
        tracing::warn!(warning, "Prometheus warns about a query");
    }
    let Some(Data {
        result_type,
        result,
    }) = answer.data
    else {
        return Reading::Error("the answer of Prometheus has no data".to_owned());
    };
    match result_type.as_str() {
        "vector" => match result.as_array().and_then(|elements| elements.last()) {
            None => Reading::NoData,
            Some(last) if last.get("value").is_none() => Reading::Error(
                "the query returned a native histogram, take a quantile of it with histogram_quantile()"
                    .to_owned(),
            ),
            Some(last) => value(&last["value"]),
        },
        "scalar" => value(&result),
        "matrix" => Reading::Error(
            "the query returned multiple values: it is a range vector, put a function such as rate() around it".to_owned(),
        ),
        other => Reading::Error(format!("the query returned a {other}, not a number")),
    }
}

/// `[seconds, "number"]`.
fn value(sample: &Value) -> Reading {
    match sample[1].as_str().and_then(|text| text.parse::<f64>().ok()) {
        Some(number) if number.is_nan() => Reading::NoData,
        Some(number) if number.is_infinite() => Reading::Error(
            "the query returned an infinite value, something is divided by zero".to_owned(),
        ),
        Some(number) => Reading::Value(number),
        None => Reading::Error(format!("the sample {sample} of Prometheus is no number")),
    }
}

/// An answer that is not Prometheus' (a proxy's page).
fn foreign(status: u16, body: &[u8]) -> String {
    let begin: String = String::from_utf8_lossy(body)
        .trim()
        .chars()
        .take(200)
        .collect();
    if begin.is_empty() {
        format!("the address answered {status} with no body, which is not Prometheus")
    } else {
        format!("the address answered {status}, which is not Prometheus: {begin}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_secret() {
        use serde_json::json;
        // "abc", "me" and "pw" in base64.
        let table = [
            (
                json!({"token": "YWJj", "username": "bWU="}),
                Ok(Auth::Bearer("abc".into())),
            ),
            (
                json!({"username": "bWU=", "password": "cHc="}),
                Ok(Auth::Basic {
                    username: "me".into(),
                    password: "pw".into(),
                }),
            ),
            (
                json!({"username": "bWU="}),
                Err("has neither the key token nor the keys username and password".to_owned()),
            ),
        ];
        for (data, expected) in table {
            assert_eq!(Auth::of(&json!({ "data": data })), expected);
        }
    }

    #[test]
    fn requests() {
        let table = [
            (
                "http://prometheus.istio-system:9090",
                "http://prometheus.istio-system:9090/api/v1/query?query=sum%28rate%28x%7Ba%3D%22b%22%7D%5B1m%5D%29%29+%2F+2",
            ),
            (
                "http://prom:9090/prefix/?x=1",
                "http://prom:9090/prefix/api/v1/query?query=sum%28rate%28x%7Ba%3D%22b%22%7D%5B1m%5D%29%29+%2F+2",
            ),
        ];
        for (address, expected) in table {
            let request =
                request(address, "sum(rate(x{a=\"b\"}[1m])) / 2", &[], &Auth::None).unwrap();
            assert_eq!(request.uri().to_string(), expected);
            assert_eq!(request.method(), "GET");
            assert!(!request.headers().contains_key("authorization"));
        }
    }

    #[test]
    fn credentials_and_headers() {
        let headers = [("X-Scope-OrgID".to_owned(), "tenant".to_owned())];
        let bearer = request("http://p", "up", &headers, &Auth::Bearer("t".to_owned())).unwrap();
        assert_eq!(bearer.headers()["x-scope-orgid"], "tenant");
        assert_eq!(bearer.headers()["authorization"], "Bearer t");
        let basic = Auth::Basic {
            username: "Aladdin".to_owned(),
            password: "open sesame".to_owned(),
        };
        assert_eq!(format!("{basic:?}"), "Basic(***)");
        let basic = request("http://p", "up", &[], &basic).unwrap();
        // The example of RFC 7617.
        assert_eq!(
            basic.headers()["authorization"],
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert!(basic.headers()["authorization"].is_sensitive());
        let odd = [("a b".to_owned(), "secret".to_owned())];
        assert_eq!(
            request("http://p", "up", &odd, &Auth::None).unwrap_err(),
            "headers: \"a b\" is no name of a header"
        );
    }

    #[test]
    fn answers() {
        let table = [
            (200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1795219200.781,"94.73684210526315"]}]}}"#, Reading::Value(94.736_842_105_263_15)),
            (200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"2"]}]}}"#, Reading::Value(2.0)),
            (200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#, Reading::NoData),
            (200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}"#, Reading::NoData),
            (200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"+Inf"]}]}}"#, Reading::Error("the query returned an infinite value, something is divided by zero".to_owned())),
            (200, r#"{"status":"success","data":{"resultType":"scalar","result":[1795219200.781,"1"]}}"#, Reading::Value(1.0)),
            (200, r#"{"status":"success","warnings":["partial response"],"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"5"]}]}}"#, Reading::Value(5.0)),
            (200, r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"5"]]}]}}"#, Reading::Error("the query returned multiple values: it is a range vector, put a function such as rate() around it".to_owned())),
            (200, r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#, Reading::Error("the query returned a string, not a number".to_owned())),
            (200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"2"}]}]}}"#, Reading::Error("the query returned a native histogram, take a quantile of it with histogram_quantile()".to_owned())),
            (400, r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error: unclosed left brace"}"#, Reading::Error("Prometheus answered 400: invalid parameter \"query\": 1:5: parse error: unclosed left brace".to_owned())),
            (503, "{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"query timed out\"}", Reading::Error("Prometheus answered 503: query timed out".to_owned())),
            (502, "<html>bad gateway</html>\n", Reading::Error("the address answered 502, which is not Prometheus: <html>bad gateway</html>".to_owned())),
            (200, "", Reading::Error("the address answered 200 with no body, which is not Prometheus".to_owned())),
            (200, r#"{"status":"success"}"#, Reading::Error("the answer of Prometheus has no data".to_owned())),
        ];
        for (status, body, expected) in table {
            assert_eq!(parse(status, body.as_bytes()), expected, "{status} {body}");
        }
    }
}
