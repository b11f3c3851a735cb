//! One process of the binary. It never outlives the test that started it, however that ends.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::mpsc;

use crate::http::fixture::{Server, client};

/// No test waits longer for anything; one that gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A directory of one test, gone with it.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("canary-mcp-test-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What is left of a directory in the temporary one does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The binary with nothing of this process's surroundings but the way to a temporary directory.
fn command(args: &[&str], dir: &Dir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canary-mcp"));
    command
        .args(args)
        .env_clear()
        .env("TMPDIR", &dir.0)
        .env("RUST_LOG", "info")
        .stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    let dir = Dir::new();
    command(args, &dir).output().unwrap()
}

/// A process, the binary or a program of others, that goes on until it is ended.
pub(crate) struct Process {
    child: Child,
    /// Where it can be told something.
    stdin: Option<ChildStdin>,
    /// What it says on stdout, by line; closed when it ends.
    lines: mpsc::UnboundedReceiver<String>,
    /// What has been listened to of it.
    pub(super) heard: String,
    /// Its stderr.
    log: PathBuf,
    _dir: Dir,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = Dir::new();
        Self::of(command(args, &dir), dir)
    }

    /// Any program. `dir` lives as long as it does, and gets its stderr.
    pub(super) fn of(mut command: Command, dir: Dir) -> Self {
        let log = dir.path("log");
        let stderr = std::fs::File::create(&log).unwrap();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A test that does not listen any more is told nothing.
                let _ = sender.send(line);
            }
        });
        Self {
            child,
            stdin,
            lines,
            heard: String::new(),
            log,
            _dir: dir,
        }
    }

    /// One line to its standard input, which its command must have piped.
    pub(super) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin must be piped");
        writeln!(stdin, "{line}").unwrap();
    }

    /// The next line that it says.
    pub(super) async fn line(&mut self) -> String {
        self.said("").await
    }

    /// What follows `before` in the next line that has it.
    pub(crate) async fn said(&mut self, before: &str) -> String {
        let line = async {
            loop {
                let line = self.lines.recv().await?;
                self.heard.push_str(&line);
                self.heard.push('\n');
                if let Some((_, after)) = line.split_once(before) {
                    return Some(after.to_owned());
                }
            }
        };
        let line = tokio::time::timeout(PATIENCE, line).await;
        line.ok().flatten().unwrap_or_else(|| {
            panic!("the process must say {before:?}");
        })
    }

    /// Waits until its log has a text.
    pub(crate) async fn logged(&self, text: &str) {
        let limit = std::time::Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&self.log).unwrap().contains(text) {
            let late = std::time::Instant::now() > limit;
            assert!(!late, "the process must log {text:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it at once, as SIGKILL does.
    pub(crate) fn kill(&mut self) {
        // An error says that it has ended by itself, which its test sees by what is missing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, as Kubernetes does.
    pub(crate) fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let silent = async { while self.lines.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, silent)
            .await
            .expect("the process must end");
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the last lines of process {}:", self.child.id());
            eprintln!("{}", last.join("\n"));
        }
    }
}

/// `canary-mcp serve`, listening where the system wants it to.
pub(crate) struct Serve {
    pub(crate) process: Process,
    /// Its MCP endpoint.
    pub(crate) mcp: Server,
    kubeconfig: Option<PathBuf>,
}

impl Serve {
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        Self::serving(Process::start(&all)).await
    }

    async fn serving(mut process: Process) -> Self {
        let url = process.said("serves MCP at ").await;
        let origin = url.strip_suffix("/mcp").unwrap().to_owned();
        let mcp = Server {
            origin,
            client: client(),
        };
        Self {
            process,
            mcp,
            kubeconfig: None,
        }
    }

    /// One that logs all that it can.
    pub(crate) async fn talkative(args: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let dir = Dir::new();
        let mut command = command(&all, &dir);
        command.env("RUST_LOG", "trace");
        Self::serving(Process::of(command, dir)).await
    }

    /// On the clusters of a kubeconfig.
    pub(crate) async fn joining(kubeconfig: &Path) -> Self {
        Self::start(&["--kubeconfig", kubeconfig.to_str().unwrap()]).await
    }

    /// The kubeconfig of the embedded clusters that it has started.
    pub(crate) async fn kubeconfig(&mut self) -> PathBuf {
        if self.kubeconfig.is_none() {
            let said = self.process.said("export KUBECONFIG=").await;
            self.kubeconfig = Some(said.into());
        }
        self.kubeconfig.clone().unwrap()
    }
}

/// `canary-mcp cluster`.
pub(crate) struct Clusters {
    pub(crate) kubeconfig: PathBuf,
    _process: Process,
}

impl Clusters {
    pub(crate) async fn start(speed: &str) -> Self {
        let args = ["cluster", "--listen", "127.0.0.1:0", "--speed", speed];
        let mut process = Process::start(&args);
        let kubeconfig = process.said("export KUBECONFIG=").await.into();
        Self {
            kubeconfig,
            _process: process,
        }
    }
}
