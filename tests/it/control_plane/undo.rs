//! What undoes what the tests have made, also when this process is killed.

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

/// A shell that waits for the end of a pipe, runs the commands that have come through it, and removes the folder. The removal is tried again,
/// because what has been killed may still be writing.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
commands=$(cat)
eval "$commands"
for _ in 1 2 3 4 5; do
  rm -rf "$1" && break
  sleep 1
done
"#;

pub(super) struct Undo(Mutex<Child>);

impl Undo {
    pub(super) fn new(folder: &Path) -> std::io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "undo"])
            .arg(folder)
            .stdin(Stdio::piped())
            // Whoever reads our output must not have to wait for the shell.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(Mutex::new(shell)))
    }

    /// Adds a command.
    pub(super) fn with(&self, words: &[&str]) -> std::io::Result<()> {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let mut shell = self.0.lock().expect("nothing panics while it is held");
        let pipe = shell.stdin.as_mut().expect("the pipe must be open");
        writeln!(pipe, "{}", words.join(" "))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Ok(shell) = self.0.get_mut() {
            drop(shell.stdin.take());
            // It has nothing to say.
            let _ = shell.wait();
        }
    }
}

/// A word of the shell's language.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[test]
fn it_runs_what_it_was_given_and_removes_the_folder() {
    let folder = std::env::temp_dir().join(format!("canary-mcp-undo-{}", std::process::id()));
    let witness = folder.with_extension("it's done");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "").unwrap();
    let undo = Undo::new(&folder).unwrap();
    undo.with(&["touch", witness.to_str().unwrap()]).unwrap();
    assert!(folder.exists() && !witness.exists());
    drop(undo);
    assert!(!folder.exists() && witness.exists());
    std::fs::remove_file(witness).unwrap();
}
