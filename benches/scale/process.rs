//! The engine in a process of its own, looked at from outside: `/proc`, and its own endpoints.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, 100 on every architecture that Linux has had for long.
const TICKS: f64 = 100.0;
/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_secs(120);

/// `canary-mcp serve` on the clusters of a kubeconfig, all of which it leads.
pub(crate) struct Engine {
    child: Child,
    origin: String,
    client: reqwest::Client,
    log: PathBuf,
    /// From its start to the first `/readyz`, and to the first answer of `list_clusters`.
    pub(crate) ready: Duration,
    pub(crate) listed: Duration,
}

impl Engine {
    /// `serve`, with these arguments too, ready and asked once.
    pub(crate) async fn start(kubeconfig: &Path, args: &[&str]) -> Self {
        let log = kubeconfig.with_extension("log");
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_canary-mcp"))
            .args(["serve", "--listen", "127.0.0.1:0", "--kubeconfig"])
            .arg(kubeconfig)
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let origin = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("serves MCP at ")?.1.to_owned()));
        let origin = origin.unwrap_or_else(|| panic!("{}", std::fs::read_to_string(&log).unwrap()));
        // Somebody has to read what else it says.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let origin = origin.strip_suffix("/mcp").unwrap().to_owned();
        let mut engine = Self {
            child,
            origin,
            client,
            log,
            ready: Duration::ZERO,
            listed: Duration::ZERO,
        };
        while !engine.is_ready().await {
            assert!(began.elapsed() < PATIENCE, "not ready within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        engine.ready = began.elapsed();
        engine.call("list_clusters").await;
        engine.listed = began.elapsed();
        engine
    }

    async fn is_ready(&self) -> bool {
        let asked = self.client.get(format!("{}/readyz", self.origin));
        asked.send().await.is_ok_and(|a| a.status().is_success())
    }

    /// A tool's answer, and the bytes of what an assistant reads of it.
    pub(crate) async fn call(&self, tool: &str) -> (Value, usize) {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}});
        let request = self
            .client
            .post(format!("{}/mcp", self.origin))
            .timeout(PATIENCE)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18")
            .body(body.to_string());
        let text = request.send().await.unwrap().text().await.unwrap();
        let message = text
            .lines()
            .map(|line| line.strip_prefix("data:").unwrap_or(line).trim())
            .filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .next_back();
        let mut answer = message.unwrap_or_else(|| panic!("{tool} answers {text:?}"));
        let shown = answer["result"]["content"][0]["text"].as_str();
        let size = shown.map_or(0, str::len);
        (answer["result"]["structuredContent"].take(), size)
    }

    /// Resident memory, in MB of 10^6 bytes.
    pub(crate) fn resident(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
        kib.unwrap() * 1_024.0 / 1e6
    }

    /// CPU seconds so far, of all threads.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        // The name in parentheses may have spaces; what follows begins with field 3.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |n: usize| fields[n - 3].parse::<f64>().unwrap();
        (ticks(14) + ticks(15)) / TICKS
    }

    /// Open sockets.
    pub(crate) fn sockets(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        links
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Lines of its log so far.
    pub(crate) fn logged(&self) -> usize {
        std::fs::read_to_string(&self.log).unwrap().lines().count()
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Asked to end, it gives its Leases back, and the next one need not wait for them to run out.
        let kill = format!("kill -TERM {}", self.child.id());
        let asked = Command::new("sh").args(["-c", &kill]).status();
        let limit = Instant::now() + Duration::from_secs(20);
        while asked.is_ok() && Instant::now() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // An error says that it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
