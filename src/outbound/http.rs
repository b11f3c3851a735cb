//! The one HTTP client: bounds of time and size, TLS, and errors without secrets in them.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{Request, Response, Uri, header};

/// What an answer may weigh.
pub const MOST_BYTES: usize = 1 << 20;
/// Connecting may take this long, in real time.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A way to a Service inside a cluster, given as a value.
pub type Through = Arc<
    dyn Fn(Request<Bytes>) -> BoxFuture<'static, Result<Response<Bytes>, String>> + Send + Sync,
>;

/// How a request gets to where it goes.
#[derive(Clone)]
pub enum Transport {
    /// By a client of our own, to the request's URL.
    Direct(reqwest::Client),
    /// By somebody else's way, which takes the request's path; the text of its error is for people.
    Through(Through),
}

/// Why there is no answer. An answer of any status is none of these.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No whole answer in time (real time).
    #[error("{target} gave no answer within {within:?}")]
    Timeout {
        /// The address, without user, password and query.
        target: String,
        /// How long was waited.
        within: Duration,
    },
    /// The answer is larger than [`MOST_BYTES`].
    #[error("the answer of {target} is larger than {MOST_BYTES} bytes")]
    TooLarge {
        /// The address, without user, password and query.
        target: String,
        /// Status of the answer.
        status: u16,
    },
    /// The call failed.
    #[error("{target} cannot be reached: {reason}")]
    Failed {
        /// The address, without user, password and query.
        target: String,
        /// Why, without secrets.
        reason: String,
    },
}

/// A client for [`Transport::Direct`]. It follows no redirect: the address was checked, and where it leads was not.
///
/// # Errors
/// Why the system's TLS cannot be used.
pub fn client(insecure_skip_tls_verify: bool) -> Result<reqwest::Client, String> {
    // reqwest is built without a provider; an error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(insecure_skip_tls_verify)
        .user_agent("canary-mcp")
        .build()
        .map_err(|error| format!("no HTTP client can be made: {}", chain(&error)))
}

// === impl Transport ===

impl Transport {
    /// Sends `request` and reads the whole answer, of whatever status.
    ///
    /// # Errors
    /// No answer, or one that is too large. No text holds the query, a password or a header's value.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        within: Duration,
    ) -> Result<Response<Bytes>, HttpError> {
        let target = shown(request.uri());
        let secrets = secrets(&request);
        let answer = tokio::time::timeout(within, self.exchange(request, &target)).await;
        match answer {
            Ok(Err(HttpError::Failed { target, reason })) => Err(HttpError::Failed {
                target,
                reason: redact(reason, &secrets),
            }),
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Timeout { target, within }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        target: &str,
    ) -> Result<Response<Bytes>, HttpError> {
        let failed = |reason: String| HttpError::Failed {
            target: target.to_owned(),
            reason,
        };
        match self {
            Self::Direct(client) => {
                let request = reqwest::Request::try_from(request)
                    .map_err(|error| failed(chain(&error.without_url())))?;
                let answer = client
                    .execute(request)
                    .await
                    .map_err(|error| failed(chain(&error.without_url())))?;
                read(answer, target).await
            }
            Self::Through(way) => {
                let answer = way(request).await.map_err(failed)?;
                if answer.body().len() > MOST_BYTES {
                    return Err(HttpError::TooLarge {
                        target: target.to_owned(),
                        status: answer.status().as_u16(),
                    });
                }
                Ok(answer)
            }
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Direct(_) => "Direct",
            Self::Through(_) => "Through",
        })
    }
}

async fn read(mut answer: reqwest::Response, target: &str) -> Result<Response<Bytes>, HttpError> {
    let mut body = BytesMut::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MOST_BYTES => {
                return Err(HttpError::TooLarge {
                    target: target.to_owned(),
                    status: answer.status().as_u16(),
                });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                return Err(HttpError::Failed {
                    target: target.to_owned(),
                    reason: chain(&error.without_url()),
                });
            }
        }
    }
    let mut whole = Response::new(body.freeze());
    *whole.status_mut() = answer.status();
    *whole.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(whole)
}

/// An address as people may see it: no user, no password, no query.
#[must_use]
pub fn shown(uri: &Uri) -> String {
    let authority = uri
        .authority()
        .map(|authority| {
            let text = authority.as_str();
            text.rsplit_once('@').map_or(text, |(_, host)| host)
        })
        .unwrap_or_default();
    let scheme = uri
        .scheme_str()
        .map(|scheme| format!("{scheme}://"))
        .unwrap_or_default();
    format!("{scheme}{authority}{}", uri.path())
}

/// Values of headers that carry credentials.
fn secrets(request: &Request<Bytes>) -> Vec<String> {
    request
        .headers()
        .iter()
        .filter(|(name, value)| {
            let name = name.as_str();
            value.is_sensitive()
                || *name == header::AUTHORIZATION
                || *name == header::COOKIE
                || name.contains("key")
                || name.contains("token")
        })
        .filter_map(|(_, value)| value.to_str().ok())
        .flat_map(|value| {
            // Both `Bearer abc` and `abc`.
            let word = value.split_whitespace().last().unwrap_or(value);
            [value.to_owned(), word.to_owned()]
        })
        .filter(|secret| !secret.is_empty())
        .collect()
}

fn redact(text: String, secrets: &[String]) -> String {
    secrets
        .iter()
        .fold(text, |text, secret| text.replace(secret.as_str(), "***"))
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn request(uri: &str) -> Request<Bytes> {
        Request::get(uri)
            .header("authorization", "Bearer s3cret")
            .header("dd-api-key", "k3y")
            .body(Bytes::new())
            .unwrap()
    }

    fn through(
        way: impl Fn(Request<Bytes>) -> BoxFuture<'static, Result<Response<Bytes>, String>>
        + Send
        + Sync
        + 'static,
    ) -> Transport {
        Transport::Through(Arc::new(way))
    }

    #[tokio::test(start_paused = true)]
    async fn any_status_is_an_answer() {
        let transport = through(|request| {
            assert_eq!(request.uri().path(), "/api");
            async {
                let mut answer = Response::new(Bytes::from_static(b"no"));
                *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                Ok(answer)
            }
            .boxed()
        });
        let answer = transport
            .send(request("http://prom/api?q=1"), Duration::from_secs(5))
            .await
            .unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.body().as_ref(), b"no");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_hold_no_secret() {
        let transport =
            through(|_| async { Err("refused Bearer s3cret, s3cret and k3y".to_owned()) }.boxed());
        let error = transport
            .send(
                request("https://user:pass@api.example.org/v1?token=t0ken"),
                Duration::from_secs(5),
            )
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "https://api.example.org/v1 cannot be reached: refused ***, *** and ***"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_or_end_is_an_error() {
        let silent = through(|_| std::future::pending().boxed());
        let error = silent
            .send(request("http://prom:9090/api"), Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "http://prom:9090/api gave no answer within 5s"
        );
        let huge =
            through(|_| async { Ok(Response::new(Bytes::from(vec![0; MOST_BYTES + 1]))) }.boxed());
        let error = huge
            .send(request("http://prom:9090/api"), Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the answer of http://prom:9090/api is larger than 1048576 bytes"
        );
    }

    /// A server that answers every connection with these bytes.
    async fn server(answer: Vec<u8>) -> std::net::SocketAddr {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn the_client_of_our_own_follows_no_redirect_and_reads_no_endless_body() {
        let transport = Transport::Direct(client(false).unwrap());
        let address = server(
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        )
        .await;
        let answer = transport
            .send(
                request(&format!("http://{address}/")),
                Duration::from_secs(30),
            )
            .await
            .unwrap();
        assert_eq!(answer.status(), 302);

        let mut endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        endless.resize(endless.len() + 2 * MOST_BYTES, b'x');
        let address = server(endless).await;
        let error = transport
            .send(
                request(&format!("http://{address}/")),
                Duration::from_secs(30),
            )
            .await
            .unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { .. }), "{error}");
    }
}
