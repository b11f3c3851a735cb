use std::sync::{Arc, Mutex};

use futures::FutureExt;
use http::Response;
use serde_json::json;

use super::*;
use crate::outbound::http::MOST_BYTES;

fn payload() -> Payload {
    Payload {
        name: "podinfo".to_owned(),
        namespace: "test".to_owned(),
        phase: "Progressing".to_owned(),
        checksum: "85d557f47b".to_owned(),
        canary_weight: 10,
        primary_weight: 90,
        iteration: 2,
        image: Some("ghcr.io/stefanprodan/podinfo:6.0.1".to_owned()),
        run: Some("95677890-7404-573f-9f0a-52394894a247".to_owned()),
        metadata: BTreeMap::new(),
    }
}

fn secret(data: &Value) -> Value {
    json!({"kind": "Secret", "data": data})
}

/// What a scripted receiver answers: status, `Retry-After` and body; or an error on the way.
type Said = Result<(u16, Option<&'static str>, &'static str), &'static str>;

/// What a receiver was asked, and when, in seconds.
type Asked = Arc<Mutex<Vec<(u64, Request<Bytes>)>>>;

/// Retries, answers, what is told, and the seconds at which it was called.
type Row<'a> = (u32, Vec<Said>, Result<(), &'a str>, Vec<u64>);

/// A receiver that answers so, one after another and then the last again, and what it was asked and when, in seconds.
fn receiver(answers: &[Said]) -> (Transport, Asked) {
    let asked: Asked = Arc::default();
    let (seen, answers) = (asked.clone(), answers.to_vec());
    let began = tokio::time::Instant::now();
    let way = move |request: Request<Bytes>| {
        let mut seen = seen.lock().unwrap();
        let said = answers[seen.len().min(answers.len() - 1)];
        seen.push((began.elapsed().as_secs(), request));
        async move {
            let (status, after, body) = said.map_err(str::to_owned)?;
            let mut answer = Response::builder().status(status);
            if let Some(after) = after {
                answer = answer.header("retry-after", after);
            }
            Ok(answer.body(Bytes::from_static(body.as_bytes())).unwrap())
        }
        .boxed()
    };
    (Transport::Through(Arc::new(way)), asked)
}

const PATIENT: Patience = Patience {
    timeout: Duration::from_secs(10),
    retries: 0,
};

#[test]
fn the_payload_is_flaggers_with_ours_behind_it() {
    let text = serde_json::to_string(&payload()).unwrap();
    assert_eq!(
        text,
        "{\"name\":\"podinfo\",\"namespace\":\"test\",\"phase\":\"Progressing\",\"checksum\":\"85d557f47b\",\
         \"canaryWeight\":10,\"primaryWeight\":90,\"iteration\":2,\"image\":\"ghcr.io/stefanprodan/podinfo:6.0.1\",\
         \"run\":\"95677890-7404-573f-9f0a-52394894a247\"}"
    );
    let bare = Payload {
        name: "podinfo".to_owned(),
        namespace: "test".to_owned(),
        phase: "Initializing".to_owned(),
        metadata: BTreeMap::from([
            ("type".to_owned(), "bash".to_owned()),
            ("cmd".to_owned(), "true".to_owned()),
        ]),
        ..Payload::default()
    };
    assert_eq!(
        serde_json::to_string(&bare).unwrap(),
        "{\"name\":\"podinfo\",\"namespace\":\"test\",\"phase\":\"Initializing\",\"checksum\":\"\",\
         \"metadata\":{\"cmd\":\"true\",\"type\":\"bash\"},\"canaryWeight\":0,\"primaryWeight\":0,\"iteration\":0}"
    );
}

#[test]
fn the_checksum_tells_what_is_rolled_out() {
    // `printf 'v1-aa\nconfigmap/a=0123456789abcdef\nsecret/b=fedcba9876543210' | sha256sum`, the first 16 digits.
    let both = [
        ("secret/b", "fedcba9876543210"),
        ("configmap/a", "0123456789abcdef"),
    ];
    assert_eq!(checksum("v1-aa", both), "21ebeec1289fbe11");
    assert_eq!(checksum("v1-aa", [both[1], both[0]]), "21ebeec1289fbe11");
    assert_eq!(checksum("v1-aa", []), "9dc2ffe083df5f2c");
    assert_eq!(checksum("v1-ab", []), "c80d99dd8b4907eb");
}

#[test]
fn metadata_is_rendered_where_it_is_ours_and_cannot_stand_for_an_events_own() {
    let values = Values {
        canary_weight: 50,
        further: payload().names(),
        ..Values::default()
    };
    let given = |key: &str, text: &str| (key.to_owned(), text.to_owned());
    let own = metadata(
        &[
            given("cmd", "if [ \"{{ canaryWeight }}\" -eq 50 ]; then hey; fi"),
            given("format", "{{.Names}}"),
            given("of", "{{ phase }}/{{ iteration }}/{{ primaryWeight }}"),
            given("eventType", "analysis-complete"),
        ],
        &values,
    )
    .unwrap();
    let expected = BTreeMap::from([
        given("cmd", "if [ \"50\" -eq 50 ]; then hey; fi"),
        given("format", "{{.Names}}"),
        given("of", "Progressing/2/90"),
        given("eventType", "analysis-complete"),
    ]);
    assert_eq!(own, expected);
    let told = of_event(
        own,
        "New revision detected!",
        true,
        Moment(1_795_219_200_123),
    );
    let expected = BTreeMap::from([
        given("cmd", "if [ \"50\" -eq 50 ]; then hey; fi"),
        given("format", "{{.Names}}"),
        given("of", "Progressing/2/90"),
        given("eventType", "Warning"),
        given("eventMessage", "New revision detected!"),
        given("timestamp", "1795219200123"),
    ]);
    assert_eq!(told, expected);
    assert_eq!(
        metadata(&[given("cmd", "pin {{ canaryHash }}")], &values).unwrap_err(),
        "metadata.cmd: {{ canaryHash }} is not known at this moment"
    );
}

#[test]
fn a_call_is_a_post_of_the_payload() {
    let key = "95677890/pre-rollout/smoke tests é/3";
    let url = "http://flagger-loadtester.test.svc:80/gate/check?x=1";
    let request = request(url, key, &payload(), None).unwrap();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri().to_string(), url);
    let mut headers: Vec<(&str, &str)> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("content-type", "application/json"),
            (
                "idempotency-key",
                "95677890/pre-rollout/smoke%20tests%20%C3%A9/3"
            ),
        ]
    );
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body["name"], "podinfo");
    assert_eq!(body["canaryWeight"], 10);
}

#[test]
fn a_hook_may_carry_a_request_of_its_own() {
    // "Bearer s3cret\n" and "text/plain" in base64.
    let headers = Headers::of(&secret(&json!({
        "Authorization": "QmVhcmVyIHMzY3JldAo=",
        "Content-Type": "dGV4dC9wbGFpbg==",
    })))
    .unwrap();
    assert!(headers.authorize());
    assert_eq!(
        format!("{headers:?}"),
        "{\"authorization\", \"content-type\"}"
    );
    let own = Own {
        method: Method::PUT,
        headers,
        body: Some("{\"enabled\": false}".to_owned()),
    };
    let sent = request("https://flags.example.com/x", "k", &payload(), Some(&own)).unwrap();
    assert_eq!(sent.method(), "PUT");
    assert_eq!(sent.body().as_ref(), b"{\"enabled\": false}");
    assert_eq!(sent.headers()["authorization"], "Bearer s3cret");
    assert_eq!(sent.headers()["content-type"], "text/plain");
    assert_eq!(sent.headers()["idempotency-key"], "k");
    // Without a body it is the payload; a GET has none.
    let own = |method| Own {
        method,
        headers: Headers::default(),
        body: None,
    };
    let sent = request("http://a.b/", "k", &payload(), Some(&own(Method::POST))).unwrap();
    assert_eq!(
        sent.body().as_ref(),
        serde_json::to_vec(&payload()).unwrap().as_slice()
    );
    let sent = request("http://a.b/", "k", &payload(), Some(&own(Method::GET))).unwrap();
    assert_eq!((sent.body().len(), sent.headers().len()), (0, 1));
}

#[test]
fn headers_that_no_hook_may_set() {
    for (key, expected) in [
        (
            "Host",
            "has the key \"Host\", a header that no hook may set",
        ),
        (
            "Impersonate-User",
            "has the key \"Impersonate-User\", a header that no hook may set",
        ),
        (
            "Idempotency-Key",
            "has the key \"Idempotency-Key\", a header that no hook may set",
        ),
        (
            "Transfer-Encoding",
            "has the key \"Transfer-Encoding\", a header that no hook may set",
        ),
        ("a b", "has the key \"a b\", which is no name of a header"),
    ] {
        let mut data = json!({});
        data[key] = json!("c2VjcmV0");
        assert_eq!(Headers::of(&secret(&data)).unwrap_err(), expected);
    }
    // "a\nb" in base64.
    let broken = Headers::of(&secret(&json!({"X-Key": "YQpi"})));
    assert_eq!(
        broken.unwrap_err(),
        "has a value of \"X-Key\" that no header can have"
    );
    assert_eq!(Headers::of(&json!({})).unwrap(), Headers::default());
}

#[tokio::test(start_paused = true)]
async fn answers_and_how_often_they_are_asked_for() {
    let long = "x".repeat(400);
    let long: &'static str = Box::leak(long.into_boxed_str());
    let cut: String = format!("{}...", "x".repeat(297));
    let table: Vec<Row<'_>> = vec![
        (3, vec![Ok((200, None, "OK"))], Ok(()), vec![0]),
        (0, vec![Ok((202, None, ""))], Ok(()), vec![0]),
        (3, vec![Ok((203, None, "odd"))], Err("odd"), vec![0]),
        (
            3,
            vec![Ok((403, None, "Forbidden"))],
            Err("Forbidden"),
            vec![0],
        ),
        (3, vec![Ok((404, None, ""))], Err("answered 404"), vec![0]),
        (
            3,
            vec![Ok((307, None, "moved"))],
            Err("answered 307, and no redirect is followed"),
            vec![0],
        ),
        (3, vec![Ok((501, None, "no"))], Err("no"), vec![0]),
        (
            0,
            vec![Ok((500, None, "boom\n"))],
            Err("boom (answered 500)"),
            vec![0],
        ),
        (0, vec![Ok((503, None, ""))], Err("answered 503"), vec![0]),
        (
            0,
            vec![Ok((403, None, "a\u{1b}[31m\n\tred\u{202e}"))],
            Err("a[31m red"),
            vec![0],
        ),
        (0, vec![Ok((400, None, long))], Err(&cut), vec![0]),
    ];
    for row in table {
        assert_called(row).await;
    }
}

#[tokio::test(start_paused = true)]
async fn repetitions_and_the_waits_before_them() {
    let table: Vec<Row<'_>> = vec![
        // 1, 2, 4, 8, 16, 30, 30 seconds.
        (
            7,
            vec![Ok((502, None, "bad gateway"))],
            Err("bad gateway (answered 502), after 8 attempts"),
            vec![0, 1, 3, 7, 15, 31, 61, 91],
        ),
        (
            2,
            vec![
                Err("connection refused"),
                Ok((500, None, "")),
                Ok((200, None, "")),
            ],
            Ok(()),
            vec![0, 1, 3],
        ),
        (
            1,
            vec![Err("connection refused")],
            Err("http://svc.test.svc:80/ cannot be reached: connection refused, after 2 attempts"),
            vec![0, 1],
        ),
        (
            3,
            vec![Ok((500, None, "boom")), Ok((403, None, "Forbidden"))],
            Err("Forbidden"),
            vec![0, 1],
        ),
        // The answer's own wish, which leaves the growing wait as it is; a 500 has none.
        (
            3,
            vec![
                Ok((429, Some("7"), "slow down")),
                Ok((503, Some("20"), "busy")),
                Ok((500, Some("20"), "boom")),
                Ok((200, None, "")),
            ],
            Ok(()),
            vec![0, 7, 27, 28],
        ),
        (
            3,
            vec![Ok((429, Some("3600"), "slow down"))],
            Err("slow down (answered 429), and asks not to be called for 3600 s"),
            vec![0],
        ),
        (
            1,
            vec![
                Ok((503, Some("Wed, 21 Oct 2015 07:28:00 GMT"), "busy")),
                Ok((200, None, "")),
            ],
            Ok(()),
            vec![0, 0],
        ),
    ];
    for row in table {
        assert_called(row).await;
    }
}

/// Each attempt is the same request, key included.
async fn assert_called((retries, answers, expected, at): Row<'_>) {
    let request = request("http://svc.test.svc:80/", "k", &payload(), None).unwrap();
    let (transport, asked) = receiver(&answers);
    let patience = Patience { retries, ..PATIENT };
    let told = call(&transport, &request, patience).await;
    assert_eq!(told, expected.map_err(str::to_owned), "{answers:?}");
    let asked = asked.lock().unwrap();
    let when: Vec<u64> = asked.iter().map(|(at, _)| *at).collect();
    assert_eq!(when, at, "{answers:?}");
    for (_, sent) in asked.iter() {
        assert_eq!(sent.headers()["idempotency-key"], "k");
        assert_eq!(sent.body(), request.body());
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_time() {
    let silent = Transport::Through(Arc::new(|_| std::future::pending().boxed()));
    let request = request("http://svc.test.svc:80/", "k", &payload(), None).unwrap();
    let began = tokio::time::Instant::now();
    let patience = Patience {
        timeout: Duration::from_secs(300),
        retries: 1,
    };
    let told = call(&silent, &request, patience).await.unwrap_err();
    assert_eq!(
        told,
        "http://svc.test.svc:80/ gave no answer within 300s, after 2 attempts"
    );
    assert_eq!(began.elapsed().as_secs(), 300 + 1 + 300);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_has_ended() {
    let (transport, asked) = receiver(&[Ok((500, None, "boom"))]);
    let request = request("http://svc.test.svc:80/", "k", &payload(), None).unwrap();
    let patience = Patience {
        retries: 9,
        ..PATIENT
    };
    let cut = tokio::time::timeout(Duration::from_secs(5), call(&transport, &request, patience));
    assert!(cut.await.is_err());
    assert_eq!(asked.lock().unwrap().len(), 3);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_answer_tells_a_headers_value() {
    // "Bearer s3cret" and "k3y" in base64.
    let headers = Headers::of(&secret(&json!({
        "Authorization": "QmVhcmVyIHMzY3JldA==",
        "X-Signature": "azN5",
    })));
    let own = Own {
        method: Method::POST,
        headers: headers.unwrap(),
        body: None,
    };
    let request = request("https://x.example/?t=t0ken", "k", &payload(), Some(&own)).unwrap();
    for (answer, expected) in [
        (
            Ok((403, None, "not Bearer s3cret, not s3cret, not k3y")),
            "not ***, not ***, not ***",
        ),
        (
            Err("refused Bearer s3cret and k3y"),
            "https://x.example/ cannot be reached: refused *** and ***",
        ),
    ] {
        let (transport, _) = receiver(&[answer]);
        let told = call(&transport, &request, PATIENT).await.unwrap_err();
        assert_eq!(told, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_yes_with_a_long_output_is_a_yes() {
    for (status, expected) in [
        (200, Ok(())),
        (
            500,
            Err("the answer of http://svc.test.svc:80/ is larger than 1048576 bytes".to_owned()),
        ),
    ] {
        let long = Transport::Through(Arc::new(move |_| {
            let body = Bytes::from(vec![b'x'; MOST_BYTES + 1]);
            let mut answer = Response::new(body);
            *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
            async { Ok(answer) }.boxed()
        }));
        let request = request("http://svc.test.svc:80/", "k", &payload(), None).unwrap();
        assert_eq!(call(&long, &request, PATIENT).await, expected);
    }
}
