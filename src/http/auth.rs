//! Static tokens (`--auth static-tokens`): who may call, from a file of hashes.
//!
//! A line of the file is `NAME sha256:HEX SCOPE[,SCOPE]`, as `canary-mcp token` prints it; `#` begins a comment. A token has 256 random
//! bits, so a plain SHA-256 of it cannot be guessed back: a slow hash protects what people choose, not this. The file is read again when it
//! changes, as a mounted Secret does; one that cannot be used changes nothing and is told in the log.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Mutex, RwLock},
    time::Instant,
};

use super::call::Call;
use crate::mcp::principal::{self, Principal, Scope};

/// How old a look at the file may be.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How a token begins, so that whoever finds one knows what it is.
const PREFIX: &str = "cmcp_";
/// Bytes of a token and of its hash.
const BYTES: usize = 32;
/// Longest name of a caller; it goes into annotations and events.
const LONGEST_NAME: usize = 64;

/// The callers of one file, as it is now. Cheap to clone.
#[derive(Clone)]
pub struct StaticTokens {
    file: Arc<File>,
}

struct File {
    path: PathBuf,
    callers: RwLock<Arc<[Caller]>>,
    looked: Mutex<Look>,
}

/// The last look at the file.
struct Look {
    at: Instant,
    text: String,
    /// The file could not be read, which has been said.
    lost: bool,
}

#[derive(Clone)]
struct Caller {
    hash: [u8; BYTES],
    principal: Principal,
}

/// A new token and what is kept of it.
pub struct Minted {
    /// The token itself; nobody can find it out again.
    pub token: String,
    /// The line for the file.
    pub line: String,
}

/// Makes a token.
///
/// # Errors
/// What is wrong with the name or the scopes; the system has no random numbers.
pub fn mint(name: &str, scopes: &str) -> Result<Minted, String> {
    let mut random = [0_u8; BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    let token = format!("{PREFIX}{}", hex(&random));
    let line = format!("{name} sha256:{} {scopes}", hex(&hash(&token)));
    caller(&line)?;
    Ok(Minted { token, line })
}

// === impl StaticTokens ===

impl StaticTokens {
    /// Reads the file.
    ///
    /// # Errors
    /// Why it cannot be used, with the line; never what is in it.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let callers = callers(&text).map_err(|why| format!("{}, {why}", path.display()))?;
        Ok(Self {
            file: Arc::new(File {
                path: path.to_owned(),
                callers: RwLock::new(callers.into()),
                looked: Mutex::new(Look {
                    at: Instant::now(),
                    text,
                    lost: false,
                }),
            }),
        })
    }

    /// Whose token this is.
    async fn principal(&self, token: &str) -> Option<Principal> {
        self.look().await;
        let wanted = hash(token);
        let callers = self.file.callers.read().await.clone();
        // Every line is looked at, so that time tells nothing.
        let mut found = None;
        for caller in callers.iter() {
            if same(&caller.hash, &wanted) {
                found = Some(&caller.principal);
            }
        }
        found.cloned()
    }

    /// Takes a changed file over.
    async fn look(&self) {
        let File {
            path,
            callers: known,
            looked,
        } = &*self.file;
        let mut last = looked.lock().await;
        if last.at.elapsed() < LOOK_AGAIN {
            return;
        }
        last.at = Instant::now();
        let path = path.display();
        let text = match tokio::fs::read_to_string(&self.file.path).await {
            Ok(text) => text,
            Err(error) => {
                if !std::mem::replace(&mut last.lost, true) {
                    tracing::error!(%path, %error, "the tokens cannot be read; those that were known still count");
                }
                return;
            }
        };
        last.lost = false;
        if text == last.text {
            return;
        }
        match callers(&text) {
            Ok(callers) => {
                tracing::info!(%path, callers = callers.len(), "the tokens have changed");
                *known.write().await = callers.into();
            }
            Err(why) => {
                tracing::error!(%path, "the tokens have changed and cannot be used, those that were known still count: {why}");
            }
        }
        last.text = text;
    }
}

/// The layer: lets in who has a token, and tells the layers below who that is. The token goes no further.
pub(super) async fn authenticate(
    State(tokens): State<Option<StaticTokens>>,
    mut request: Request,
    next: Next,
) -> Response {
    let token = bearer(request.headers());
    for name in [
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::COOKIE,
    ] {
        request.headers_mut().remove(name);
    }
    let Some(tokens) = tokens else {
        return next.run(request).await;
    };
    let Some(token) = token else {
        let why = "this server takes a token: send the header Authorization: Bearer TOKEN; who runs it makes one with `canary-mcp token`\n";
        return refused(StatusCode::UNAUTHORIZED, "", why);
    };
    let Some(principal) = tokens.principal(&token).await else {
        let why = "the token is not one of this server's; ask who runs it for a new one\n";
        return refused(StatusCode::UNAUTHORIZED, r#", error="invalid_token""#, why);
    };
    request.extensions_mut().insert(principal);
    next.run(request).await
}

/// The layer below: lets only those calls through that the caller may make.
pub(super) async fn authorise(request: Request, next: Next) -> Response {
    let call = request.extensions().get::<Call>();
    let tool = call.and_then(|call| call.tool.as_ref());
    if let (Some(principal), Some(tool)) = (request.extensions().get::<Principal>(), tool) {
        let required = principal::required(&tool.name, tool.arguments.as_ref());
        if principal.scope < required {
            let scope = required.name();
            let with = format!(r#", error="insufficient_scope", scope="{scope}""#);
            let why = principal.lacks(required);
            return refused(StatusCode::FORBIDDEN, &with, &format!("{why}\n"));
        }
    }
    next.run(request).await
}

/// RFC 6750: the challenge says what is wrong with the token.
fn refused(status: StatusCode, with: &str, why: &str) -> Response {
    let mut response = (status, why.to_owned()).into_response();
    let challenge = format!(r#"Bearer realm="canary-mcp"{with}"#);
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next()?.to_str().ok()?;
    // Two of them mean nothing.
    if all.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

/// All lines of a file; at least one.
fn callers(text: &str) -> Result<Vec<Caller>, String> {
    let mut all: Vec<Caller> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let new = caller(line).map_err(|why| format!("line {}: {why}", n + 1))?;
        if all.iter().any(|known| same(&known.hash, &new.hash)) {
            return Err(format!("line {}: this token is there twice", n + 1));
        }
        all.push(new);
    }
    if all.is_empty() {
        return Err("there is no token in it; make one with: canary-mcp token".to_owned());
    }
    Ok(all)
}

fn caller(line: &str) -> Result<Caller, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, hash, scopes] = words.as_slice() else {
        return Err(
            "it has to be NAME sha256:HEX SCOPES, as canary-mcp token prints it".to_owned(),
        );
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@/".contains(c);
    if name.len() > LONGEST_NAME || !name.chars().all(plain) {
        return Err(format!(
            "the name has to be at most {LONGEST_NAME} letters, digits and any of -_.@/"
        ));
    }
    let hash = hash
        .strip_prefix("sha256:")
        .and_then(unhex)
        .ok_or_else(|| "the hash has to be sha256: and 64 hex digits".to_owned())?;
    let mut most = None;
    for word in scopes.split(',') {
        let scope = Scope::ALL.into_iter().find(|scope| scope.name() == word);
        let Some(scope) = scope else {
            let all = Scope::ALL.map(Scope::name).join(", ");
            return Err(format!("there is no scope {word:?}; there are {all}"));
        };
        most = most.max(Some(scope));
    }
    let scope = most.ok_or_else(|| "there is no scope".to_owned())?;
    Ok(Caller {
        hash,
        principal: Principal {
            name: (*name).to_owned(),
            scope,
        },
    })
}

fn hash(token: &str) -> [u8; BYTES] {
    Sha256::digest(token.as_bytes()).into()
}

/// In a time that does not depend on where they differ.
fn same(a: &[u8; BYTES], b: &[u8; BYTES]) -> bool {
    a.iter().zip(b).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

fn unhex(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != 2 * BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn said(text: &str) -> String {
        callers(text).err().unwrap_or_else(|| "fine".to_owned())
    }

    #[test]
    fn a_line_is_a_caller() {
        let text =
            format!("# ours\n\nci sha256:{ABC} rollouts:write,rollouts:read # the pipeline\n");
        let all = callers(&text).unwrap();
        assert_eq!(all.len(), 1);
        assert!(same(&all[0].hash, &hash("abc")));
        assert_eq!(
            all[0].principal,
            Principal {
                name: "ci".to_owned(),
                scope: Scope::Write
            }
        );
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number_and_without_its_text() {
        let good = format!("a sha256:{ABC} rollouts:read");
        for (text, why) in [
            (
                String::new(),
                "there is no token in it; make one with: canary-mcp token",
            ),
            (
                format!("{good}\nb cmcp_secret"),
                "line 2: it has to be NAME sha256:HEX SCOPES, as canary-mcp token prints it",
            ),
            (
                "a cmcp_secret rollouts:read".to_owned(),
                "line 1: the hash has to be sha256: and 64 hex digits",
            ),
            (
                format!("a\u{1b}[2J sha256:{ABC} rollouts:read"),
                "line 1: the name has to be at most 64 letters, digits and any of -_.@/",
            ),
            (
                format!("a sha256:{ABC} rollouts:all"),
                "line 1: there is no scope \"rollouts:all\"; there are rollouts:read, rollouts:write, rollouts:admin",
            ),
            (
                format!("{good}\n{good}"),
                "line 2: this token is there twice",
            ),
            (good.clone(), "fine"),
        ] {
            assert_eq!(said(&text), why, "{text}");
        }
    }

    #[test]
    fn a_new_token_is_its_own_and_its_line_is_taken() {
        let (one, two) = (
            mint("ci", "rollouts:read").unwrap(),
            mint("ci", "rollouts:read").unwrap(),
        );
        assert_ne!(one.token, two.token);
        assert_eq!(one.token.len(), "cmcp_".len() + 64);
        let taken = callers(&one.line).unwrap();
        assert!(same(&taken[0].hash, &hash(&one.token)));
        assert!(!one.line.contains(&one.token["cmcp_".len()..]));
        assert!(mint("a b", "rollouts:read").is_err());
        assert!(mint("a", "everything").is_err());
    }

    #[test]
    fn only_one_header_of_the_one_scheme_is_a_token() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            bearer(&headers)
        };
        assert_eq!(of(&["Bearer t"]).as_deref(), Some("t"));
        assert_eq!(of(&["bearer  t "]).as_deref(), Some("t"));
        for wrong in [
            &[][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic t"],
            &["Bearer t", "Bearer u"],
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
