//! Flagger's own load tester, unchanged, spoken to by our hooks.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use canary_mcp::{
    decide::facts::Moment,
    outbound::{
        hooks::{self, Patience, Payload},
        http::{self as outbound, Transport},
    },
};

use crate::{
    http::fixture::client,
    processes::child::{Dir, PATIENCE},
    tools,
};

/// Starts that are tried: a port that was free may be taken before the process gets to it.
const TRIES: u32 = 3;

struct LoadTester {
    child: Child,
    address: String,
    log: PathBuf,
    transport: Transport,
    _dir: Dir,
}

impl LoadTester {
    /// `None` where it is not installed.
    async fn start() -> Option<Self> {
        let program = tools::need("loadtester")?.join("loadtester");
        for _ in 0..TRIES {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port().to_string();
            drop(free);
            let dir = Dir::new();
            let log = dir.path("log");
            let child = Command::new(&program)
                .args(["-port", &port])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(&log).unwrap())
                .spawn()
                .unwrap();
            let mut tester = Self {
                child,
                address: format!("http://127.0.0.1:{port}"),
                log,
                transport: Transport::Direct(outbound::client(false).unwrap()),
                _dir: dir,
            };
            if tester.is_ready().await {
                return Some(tester);
            }
            eprintln!(
                "the load tester did not start, once more: {}",
                tester.said()
            );
        }
        panic!("Flagger's load tester does not start");
    }

    /// It answers; or it has ended, which is no.
    async fn is_ready(&mut self) -> bool {
        let client = client();
        let limit = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < limit {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let answer = client.get(format!("{}/healthz", self.address)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn call(&self, path: &str, payload: &Payload) -> Result<(), String> {
        let url = format!("{}{path}", self.address);
        let request = hooks::request(&url, "run/rollout/x/1", payload, None).unwrap();
        let patience = Patience {
            timeout: Duration::from_secs(30),
            retries: 0,
        };
        hooks::call(&self.transport, &request, patience).await
    }
}

impl Drop for LoadTester {
    fn drop(&mut self) {
        // An error says that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn payload(name: &str, metadata: &[(&str, &str)]) -> Payload {
    let metadata = metadata.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    Payload {
        name: name.to_owned(),
        namespace: "ai-platform".to_owned(),
        phase: "Progressing".to_owned(),
        checksum: "9dc2ffe083df5f2c".to_owned(),
        canary_weight: 10,
        primary_weight: 90,
        iteration: 1,
        image: Some("mcp-server:1.1.0".to_owned()),
        run: Some("95677890-7404-573f-9f0a-52394894a247".to_owned()),
        metadata: metadata.collect(),
    }
}

#[tokio::test]
async fn our_hooks_are_understood_by_flaggers_load_tester() {
    let Some(tester) = LoadTester::start().await else {
        return;
    };
    // Gates and rollbacks are of one Canary each.
    for (path, name, expected) in [
        ("/gate/approve", "a", Ok(())),
        ("/gate/halt", "a", Err("Forbidden")),
        ("/gate/check", "a", Err("Forbidden")),
        ("/gate/open", "a", Ok(())),
        ("/gate/check", "a", Ok(())),
        ("/gate/check", "b", Err("Forbidden")),
        ("/gate/close", "a", Ok(())),
        ("/gate/check", "a", Err("Forbidden")),
        ("/rollback/check", "a", Err("Forbidden")),
        ("/rollback/open", "a", Ok(())),
        ("/rollback/check", "a", Ok(())),
        ("/gate/check", "a", Err("Forbidden")),
        ("/rollback/close", "a", Ok(())),
        ("/rollback/check", "a", Err("Forbidden")),
        ("/no/such", "a", Err("metadata not found in payload")),
        ("/", "a", Err("metadata not found in payload")),
    ] {
        let told = tester.call(path, &payload(name, &[])).await;
        assert_eq!(told, expected.map_err(str::to_owned), "{path} {name}");
    }
    for (metadata, expected) in [
        ([("type", "bash"), ("cmd", "true")], Ok(())),
        (
            [("type", "bash"), ("cmd", "echo one; echo two; exit 3")],
            // What it prints reaches whoever looks, which Flagger's own hooks lose.
            Err(
                "command echo one; echo two; exit 3 failed: one two : exit status 3 (answered 500)",
            ),
        ),
        ([("type", "cmd"), ("cmd", "true")], Ok(())),
    ] {
        let told = tester.call("/", &payload("a", &metadata)).await;
        assert_eq!(told, expected.map_err(str::to_owned), "{metadata:?}");
    }
    // An event is what its metadata says: a receiver that runs a command is given it, whatever the event's own keys are.
    let mut event = payload("a", &[("type", "bash"), ("cmd", "true")]);
    event.metadata = hooks::of_event(
        event.metadata,
        "Advance a.ai-platform canary weight 10",
        false,
        Moment(1_795_219_200_000),
    );
    assert_eq!(tester.call("/", &event).await, Ok(()));
}
