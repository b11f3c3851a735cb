//! A real Prometheus as a process, gone with the test.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use canary_mcp::decide::facts::Moment;

use crate::{
    http::fixture::client,
    processes::child::{Dir, PATIENCE},
    tools,
};

pub(crate) struct Prometheus {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(super) address: String,
    client: reqwest::Client,
    log: PathBuf,
    _dir: Dir,
}

/// One line of the `OpenMetrics` text: `name{labels} value seconds`.
pub(super) struct Sample {
    pub(super) at: Moment,
    /// `name{label="value"} value`.
    pub(super) text: String,
}

impl Prometheus {
    /// One that has these samples and scrapes nothing. `None` where it is not installed.
    pub(super) async fn holding(mut samples: Vec<Sample>) -> Option<Self> {
        let tool = tools::need("prometheus")?;
        let dir = Dir::new();
        samples.sort_by_key(|sample| sample.at);
        let mut text = String::new();
        for Sample { at, text: line } in &samples {
            writeln!(text, "{line} {}.{:03}", at.0 / 1_000, at.0 % 1_000).unwrap();
        }
        text.push_str("# EOF\n");
        let file = dir.path("samples");
        std::fs::write(&file, text).unwrap();
        let data = dir.path("data");
        let made = Command::new(tool.join("usr/bin/promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &data])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Some(Self::start(&tool, dir, "{}").await)
    }

    /// One that scrapes `host:port/path` each second. `None` where it is not installed.
    pub(crate) async fn scraping(host: &str, path: &str) -> Option<Self> {
        let tool = tools::need("prometheus")?;
        // JSON is YAML.
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{
                "job_name": "embedded",
                "metrics_path": path,
                "static_configs": [{"targets": [host]}],
            }],
        });
        Some(Self::start(&tool, Dir::new(), &config.to_string()).await)
    }

    async fn start(tool: &Path, dir: Dir, config: &str) -> Self {
        let (file, log) = (dir.path("config"), dir.path("log"));
        std::fs::write(&file, config).unwrap();
        let child = Command::new(tool.join("usr/bin/prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path("data").display()
            ))
            // Virtual samples are of any time.
            .arg("--storage.tsdb.retention.time=100y")
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut prometheus = Self {
            child,
            address: String::new(),
            client: client(),
            log,
            _dir: dir,
        };
        let ready = tokio::time::timeout(PATIENCE, prometheus.until_ready());
        prometheus.address = ready.await.unwrap_or_else(|_| {
            panic!("Prometheus does not begin:\n{}", prometheus.said());
        });
        prometheus
    }

    /// The address that it says it listens on, once it answers there.
    async fn until_ready(&self) -> String {
        loop {
            let said = self.said();
            let listening = said
                .lines()
                .find(|line| line.contains("msg=\"Listening on\""));
            let port = listening.and_then(|line| line.split_once("address=127.0.0.1:"));
            if let Some((_, port)) = port {
                let address = format!("http://127.0.0.1:{}", port.trim());
                let answer = self.client.get(format!("{address}/-/ready")).send().await;
                if answer.is_ok_and(|a| a.status().is_success()) {
                    return address;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many instant queries it has answered well.
    pub(super) async fn queries_answered(&self) -> u64 {
        let (_, body) = self.get("/metrics", &[]).await;
        let text = String::from_utf8(body).unwrap();
        let series = "prometheus_http_requests_total{code=\"200\",handler=\"/api/v1/query\"} ";
        let count = text.lines().find_map(|line| line.strip_prefix(series));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Asks `path?parameters`: status and body.
    pub(crate) async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> (u16, Vec<u8>) {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let url = format!("{}{path}?{query}", self.address);
        let answer = self.client.get(url).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.unwrap().to_vec())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It holds nothing that anybody will read again.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
